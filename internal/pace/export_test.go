package pace

// ProcessTime is the processor time of this process.
var ProcessTime = processTime
