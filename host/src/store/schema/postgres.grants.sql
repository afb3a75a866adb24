GRANT USAGE ON SCHEMA addrauth TO addrauth_authority, addrauth_learn, addrauth_stamp;
GRANT SELECT ON addrauth.version TO addrauth_authority, addrauth_learn, addrauth_stamp;

-- The AS: its own tables, and what it needs to put new keys into the keyring (`authority.deliver = "keyring"`).
GRANT SELECT, INSERT, UPDATE, DELETE ON addrauth.addresses, addrauth.keys, addrauth.settings, addrauth.forged, addrauth.posts
    TO addrauth_authority;

-- Who learns writes what is sealed, and reads all but that.
GRANT SELECT (address, fingerprint, present, learned, expires), INSERT, UPDATE (sealed, present), DELETE ON addrauth.keyring
    TO addrauth_authority, addrauth_learn;

-- Who stamps reads.
GRANT SELECT ON addrauth.keyring TO addrauth_stamp;
