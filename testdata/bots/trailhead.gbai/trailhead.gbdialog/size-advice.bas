PARAM article AS STRING LIKE "boots" DESCRIPTION "Kind of article"
PARAM measure AS NUMBER LIKE "26.5" DESCRIPTION "Length of the longer foot in cm, or chest in cm"

DESCRIPTION "Turn a measure into a size"

IF article = "boots" THEN
    size = CEIL((measure + 1.2) * 1.5)
    TALK "Size " + size + " for walking boots; that leaves a thumb's width for the way down. With thick socks half a size more."
ELSE
    IF measure < 92 THEN
        TALK "Size S."
    ELSE IF measure < 100 THEN
        TALK "Size M."
    ELSE IF measure < 108 THEN
        TALK "Size L."
    ELSE
        TALK "Size XL. Above 116 cm look at the long cuts."
    END IF
END IF
