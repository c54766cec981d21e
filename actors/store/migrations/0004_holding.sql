-- What this agent's hypervisors hold, as far as its own disk knows. owner is NULL when it is none of theirs any more; highest is then
-- the epoch below which nothing is believed. turn counts the changes of a row: an answer that was asked for before the last one is
-- too old. leaving: the cell was asked to forget it and has not answered yet.
CREATE TABLE holding (
  domain  BLOB NOT NULL PRIMARY KEY,
  highest INTEGER NOT NULL,
  owner   TEXT,
  hold    TEXT,
  leaving INTEGER NOT NULL,
  turn    INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
