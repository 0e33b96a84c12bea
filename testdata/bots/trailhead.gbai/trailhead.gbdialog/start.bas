REM Trailhead Outfitters: shop assistant

ADD TOOL "find-product"
ADD TOOL "order-status"
ADD TOOL "start-return"
ADD TOOL "size-advice"
USE KB "policies"
USE KB "guides"
USE KB "catalogue"

greeting = GET BOT MEMORY("greeting")
campaign = GET BOT MEMORY("campaign")

CLEAR SUGGESTIONS
ADD SUGGESTION "find" AS "Help me choose"
ADD SUGGESTION "order" AS "Where is my order?"
ADD SUGGESTION "return" AS "Return something"
ADD SUGGESTION "repair" AS "Repairs and care"

SET CONTEXT "shop" AS "You sell less than you could: advise on what fits the trip, say when a customer needs nothing new, and offer a repair before a replacement."

TALK greeting
IF campaign <> "" THEN
    TALK campaign
END IF
