package job

import "time"

// clockSlack is how far a clock may go back and nothing is made of it: what was
// run is not run again. Further back, things go on from what the clock says now,
// or they would wait until a time that was never true has come.
const clockSlack = time.Hour

// now is what the clock on the wall says, and nothing else: a time that Go takes
// carries the reading of a second clock too, which never jumps. Two such times
// compare by that one, so that whether a clock went back would depend on whether
// the process was started anew since. How long something takes is measured with
// time.Since.
func (j *Jobs) now() time.Time { return j.o.now().Round(0) }

// ahead tells whether t is of a clock that was ahead of now, as one was that has
// gone back since.
func ahead(t, now time.Time) bool { return t.After(now.Add(clockSlack)) }
