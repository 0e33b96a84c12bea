PARAM orderNumber AS STRING LIKE "T-204817" DESCRIPTION "Order number from the confirmation mail"
PARAM postcode AS STRING LIKE "10115" DESCRIPTION "Postcode of the delivery address"

DESCRIPTION "Say where an order is"

order = FIND "orders", "number='" + orderNumber + "' AND postcode='" + postcode + "'"
IF order IS NULL THEN
    TALK "I find no such order under that postcode. The number starts with T- and stands in the subject of the mail."
    RETURN
END IF

SELECT CASE order.status
    CASE "paid"
        TALK "We have your money and are packing. Orders before noon leave the same day."
    CASE "packed"
        TALK "It is packed and waits for the carrier, who comes at 17:00."
    CASE "shipped"
        track = GET "https://carrier.example/track/" + order.tracking
        TALK "It is on its way. Last seen: " + track.place + ", " + FORMAT(track.at, "d MMMM HH:mm") + "."
    CASE "delivered"
        TALK "The carrier delivered it on " + FORMAT(order.delivered_at, "d MMMM") + ". Not there? Ask the neighbours first; the name stands on the card. If not, say so here and we search with the carrier."
    CASE "returned"
        TALK "Your return arrived. The money goes out within three working days, the way it came."
END SELECT
