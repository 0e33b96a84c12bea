REM Every night: stock from the warehouse, alerts to those who waited
SET SCHEDULE "30 2 * * *"

rows = GET "https://warehouse.example/export/stock.json"
FOR EACH r IN rows
    UPDATE "products", "sku='" + r.sku + "'", "stock=" + r.stock
NEXT

alerts = FIND ALL "stock_alerts", "sent=false"
FOR EACH a IN alerts
    p = FIND "products", "use LIKE '%" + a.activity + "%' AND stock > 2"
    IF p IS NOT NULL THEN
        SEND MAIL a.address, "Back in stock: " + p.title, p.title + " is here again, " + p.price + " euros. We keep it for nobody, so do not wait too long."
        UPDATE "stock_alerts", "id=" + a.id, "sent=true"
    END IF
NEXT
