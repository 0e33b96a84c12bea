package browse

import "testing"

// An ACL that is none is not written as text.
func TestACLText_TakesOnlyWhatTheKernelKeeps(t *testing.T) {
	const head = "\x02\x00\x00\x00"
	for v, want := range map[string]string{
		head + "\x01\x00\x07\x00\xff\xff\xff\xff":                                      "user::rwx",
		head + "\x02\x00\x05\x00\x01\x00\x00\xf0" + "\x20\x00\x00\x00\xff\xff\xff\xff": "user:4026531841:r-x,other::---",
		"":            "",
		head:          "",
		head + "\x01": "",
		"\x01\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff": "",
		head + "\x03\x00\x07\x00\xff\xff\xff\xff":               "",
		head + "\x01\x00\x08\x00\xff\xff\xff\xff":               "",
	} {
		if got := aclText([]byte(v)); got != want {
			t.Errorf("%q: got %q, want %q", v, got, want)
		}
	}
}
