-- The rights of three parts, each a role that a login is made a member of.
CREATE ROLE addrauth_authority NOLOGIN;
CREATE ROLE addrauth_learn NOLOGIN;
CREATE ROLE addrauth_stamp NOLOGIN;
