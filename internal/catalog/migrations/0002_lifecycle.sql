-- Width in ms of the windows that the values of a block are added up in; 0: raw profiles.
ALTER TABLE blocks ADD COLUMN resolution BIGINT NOT NULL DEFAULT 0;
