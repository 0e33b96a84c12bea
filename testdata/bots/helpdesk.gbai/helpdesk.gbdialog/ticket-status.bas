PARAM number AS STRING LIKE "H-1042" DESCRIPTION "Ticket number"
DESCRIPTION "Say how a ticket is doing"

t = FIND "tickets", "number='" + number + "'"
IF t IS NULL THEN
    TALK "There is no ticket " + number + "."
    RETURN
END IF
TALK t.number + ": " + t.title + ". Status " + t.status + ", last touched " + FORMAT(t.updated_at, "d MMM HH:mm") + "."
IF t.status = "waiting" THEN
    TALK "We wait for you: " + t.question
END IF
