//! Scriptable fakes of every port.
