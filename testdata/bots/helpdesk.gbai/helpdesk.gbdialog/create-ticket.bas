PARAM title AS STRING LIKE "Printer on floor 3 prints blank pages" DESCRIPTION "One line"
PARAM details AS STRING DESCRIPTION "What was tried, what happened, since when"
PARAM affected AS NUMBER LIKE "1" DESCRIPTION "How many people are affected"

DESCRIPTION "Open a ticket with a priority that follows from impact"

IF affected > 50 THEN
    priority = "P1"
ELSE IF affected > 5 THEN
    priority = "P2"
ELSE
    priority = "P3"
END IF

similar = FIND ALL "tickets", "status='open' AND similarity(title, '" + title + "') > 0.6"
IF UBOUND(similar) > 0 THEN
    first = FIRST(similar)
    TALK "This looks like " + first.number + " (" + first.title + "). Shall I add you to it instead?"
    HEAR same AS BOOLEAN
    IF same = TRUE THEN
        SAVE "ticket_watchers", first.id, USER.id, NOW()
        TALK "Done. You will hear from us when it moves."
        RETURN
    END IF
END IF

number = "H-" + NEXT NUMBER("tickets")
SAVE "tickets", UUID(), number, title, details, priority, affected, USER.id, "open", NOW()
TALK number + " is open with priority " + priority + "."
IF priority = "P1" THEN
    SEND MAIL "oncall@helpdesk.example", "[P1] " + title, details
    SET BOT MEMORY "incident", title + " (" + number + ")"
END IF
RETURN number
