PARAM orderNumber AS STRING LIKE "T-204817" DESCRIPTION "Order number"
PARAM postcode AS STRING LIKE "10115" DESCRIPTION "Postcode of the delivery address"
PARAM reason AS STRING LIKE "too small" DESCRIPTION "Why it comes back"

DESCRIPTION "Open a return and send the label"

order = FIND "orders", "number='" + orderNumber + "' AND postcode='" + postcode + "'"
IF order IS NULL THEN
    TALK "I find no such order under that postcode."
    RETURN
END IF

days = DATEDIFF("day", order.delivered_at, NOW())
IF days > 60 AND reason <> "defect" THEN
    TALK "Returns are open for sixty days; this order arrived " + days + " days ago. For a defect the warranty of two years holds. Is it defective?"
    HEAR defect AS BOOLEAN
    IF defect = FALSE THEN
        TALK "Then I cannot take it back, but our second-hand shelf may: 30 % of the price as a voucher, if it is clean."
        RETURN
    END IF
    reason = "defect"
END IF

returnId = UUID()
SAVE "returns", returnId, order.number, reason, NOW(), "open"
label = POST "https://carrier.example/labels", #{ "order": order.number, "return": returnId }
SEND MAIL order.email, "Your return label", "Print the label or show the code at any parcel shop: " + label.data.url
TALK "The label is on its way to your mail. Please use the original box for shoes."

IF reason = "defect" THEN
    TALK "A photo helps the workshop to decide between repair and replacement."
    HEAR photo AS IMAGE
    SAVE FILE photo, "trailhead.gbdrive/returns/" + returnId + ".jpg"
END IF
