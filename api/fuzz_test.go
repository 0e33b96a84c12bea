package api_test

import (
	"encoding/json"
	"testing"

	"github.com/generalbots/backupd/api"
)

// FuzzParseObject: whatever comes, it is taken or refused in words; and what is
// taken is what the standard library takes for an object as well.
func FuzzParseObject(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `{}`, `"{}"`, `{"type":"full","include_files":true,"retention_days":30.0,"sources":["a"]}`, `{"a":1,"a":2}`, `[[[[[[[[[[`, `"\"{}\""`,
		`{"type":"\ud800"}`, "{\"type\":\"\xff\"}", `{"retention_days":1e999999999}`, `{"x":{"y":{"z":[]}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := api.ParseObject(data)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		if len(data) > 0 {
			var v any
			if json.Unmarshal(data, &v) == nil {
				switch v.(type) {
				case nil, map[string]any, string:
				default:
					t.Errorf("%q was taken", data)
				}
			}
		}
	})
}
