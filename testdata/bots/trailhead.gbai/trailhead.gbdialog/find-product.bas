PARAM activity AS STRING LIKE "hut-to-hut walking" DESCRIPTION "What the customer wants to do"
PARAM budget AS NUMBER LIKE "150" DESCRIPTION "Upper limit in euros, 0 when there is none"
PARAM conditions AS STRING LIKE "rain, about 5 degrees" DESCRIPTION "Season and weather"

DESCRIPTION "Suggest at most three products for a trip"

rows = GET "trailhead.gbdrive/catalogue.csv"
fitting = []
FOR EACH p IN rows
    IF INSTR(LOWER(p.use), LOWER(activity)) > 0 AND p.stock > 0 THEN
        IF budget = 0 OR p.price <= budget THEN
            PUSH fitting, p
        END IF
    END IF
NEXT

IF UBOUND(fitting) = 0 THEN
    TALK "Nothing we have in stock fits that. Shall I look for something close, or tell you when it comes in?"
    HEAR wish AS "close", "tell me"
    IF wish = "tell me" THEN
        TALK "Your e-mail address, please."
        HEAR address AS EMAIL
        SAVE "stock_alerts", UUID(), address, activity, NOW()
    END IF
    RETURN
END IF

pick = LLM "Choose at most three of these for " + activity + " in " + conditions + ". One sentence each, with the reason and one drawback. " + TOJSON(fitting)
TALK pick
