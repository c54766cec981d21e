"""What the tests on real parts are made of: a private libvirt, a daemon, and clients of every kind.

Every wait is for a condition with a deadline; nothing here sleeps for a time to let something happen.
"""
