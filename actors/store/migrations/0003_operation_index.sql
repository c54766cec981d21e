-- Every command writes two transactions, and each row of an index is one more page in both. One index on a time that never
-- changes is enough to forget what is old; what a crash left open is looked for once, when the file is opened.
DROP INDEX operation_done;
DROP INDEX operation_open;
CREATE INDEX operation_accepted ON operation (accepted);
