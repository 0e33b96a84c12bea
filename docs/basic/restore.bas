' Restores a backup to the target "staging" of the configuration, beside what is live. Needs the token of an admin.
base = "http://bot:TOKEN@backup.internal:9000/api/v1/backup"
wanted = "backup-123"

result = POST base + "/restore/" + wanted, #{"target": "staging"}
IF result.status >= 400 THEN
    TALK "No restore: " + result.data.message
ELSE
    TALK "Restore job started: " + result.data.job_id
END IF
