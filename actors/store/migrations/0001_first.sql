-- A forgotten machine keeps its row with owner NULL, so that its epoch is never used again.
CREATE TABLE ownership (
  domain BLOB NOT NULL PRIMARY KEY,
  epoch  INTEGER NOT NULL,
  owner  TEXT
) WITHOUT ROWID, STRICT;

CREATE TABLE leadership (
  role   TEXT NOT NULL PRIMARY KEY,
  epoch  INTEGER NOT NULL,
  holder TEXT NOT NULL,
  until  INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

CREATE TABLE counter (
  name  TEXT NOT NULL PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

-- completed and outcome are NULL together: accepted and not done.
CREATE TABLE operation (
  caller    TEXT NOT NULL,
  id        BLOB NOT NULL,
  role      TEXT NOT NULL,
  command   TEXT NOT NULL,
  target    TEXT NOT NULL,
  arguments TEXT NOT NULL,
  accepted  INTEGER NOT NULL,
  completed INTEGER,
  outcome   TEXT,
  PRIMARY KEY (caller, id)
) WITHOUT ROWID, STRICT;
CREATE INDEX operation_done ON operation (completed) WHERE completed IS NOT NULL;
CREATE INDEX operation_open ON operation (accepted) WHERE completed IS NULL;

-- role is NULL for the agent of a hypervisor.
CREATE TABLE account (
  local         TEXT NOT NULL PRIMARY KEY,
  role          TEXT,
  salt          BLOB NOT NULL,
  iterations    INTEGER NOT NULL,
  sha1_stored   BLOB NOT NULL,
  sha1_server   BLOB NOT NULL,
  sha256_stored BLOB NOT NULL,
  sha256_server BLOB NOT NULL
) WITHOUT ROWID, STRICT;

-- groups is a JSON array of texts.
CREATE TABLE roster (
  local  TEXT NOT NULL REFERENCES account (local) ON DELETE CASCADE,
  jid    TEXT NOT NULL,
  name   TEXT,
  groups TEXT NOT NULL,
  PRIMARY KEY (local, jid)
) WITHOUT ROWID, STRICT;
