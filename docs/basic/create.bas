' Makes a full backup, databases included, and says its id.
base = "http://bot:TOKEN@backup.internal:9000/api/v1/backup"

result = POST base + "/create", #{"type": "full", "include_files": true, "include_database": true}
IF result.status >= 400 THEN
    TALK "No backup: " + result.data.message
ELSE
    TALK "Backup created: " + result.data.backup_id
END IF
