REM Every afternoon: remind tomorrow's patients, and tell the desk who has not confirmed
SET SCHEDULE "0 15 * * 1-5"

tomorrow = FORMAT(DATEADD(NOW(), 1, "day"), "yyyy-MM-dd")
list = FIND ALL "appointments", "date(starts_at)='" + tomorrow + "' AND cancelled=false"
unconfirmed = 0

FOR EACH a IN list
    IF a.channel = "mail" THEN
        SEND MAIL a.contact, "Your appointment tomorrow", "See you tomorrow at " + FORMAT(a.starts_at, "HH:mm") + ". Answer STOP to cancel."
    ELSE
        TALK TO a.contact, "Reminder: Riverside Clinic, tomorrow at " + FORMAT(a.starts_at, "HH:mm") + "."
    END IF
    IF a.confirmed = FALSE THEN
        unconfirmed = unconfirmed + 1
    END IF
NEXT

SET BOT MEMORY "unconfirmed", unconfirmed
