package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/generalbots/backupd/api"
	openapi "github.com/generalbots/backupd/docs/api"
	"go.yaml.in/yaml/v4"
)

// contract is openapi.yaml, and what of it was seen.
type contract struct {
	mu   sync.Mutex // held by answer
	t    testing.TB
	root map[string]any
	seen map[string]bool // "Schema.field", with ! when it was not null; "METHOD path status"
	kept []answered      // the answers so far, to be looked at again

	// wrong is told what differs; the test fails with it unless it is replaced.
	wrong func(format string, args ...any)
}

type answered struct {
	method, path string
	got
}

func readContract(t testing.TB) *contract {
	t.Helper()
	c := &contract{t: t, seen: make(map[string]bool), wrong: t.Errorf}
	must(t, yaml.Unmarshal(openapi.YAML, &c.root))
	return c
}

func at2(m any, keys ...string) any {
	for _, k := range keys {
		o, ok := m.(map[string]any)
		if !ok {
			return nil
		}
		m = o[k]
	}
	return m
}

// resolve follows a $ref and returns the name it leads to.
func (c *contract) resolve(m map[string]any) (map[string]any, string) {
	ref, ok := m["$ref"].(string)
	if !ok {
		return m, ""
	}
	parts := strings.Split(strings.TrimPrefix(ref, "#/"), "/")
	to, ok := at2(c.root, parts...).(map[string]any)
	if !ok {
		c.t.Fatalf("%s leads nowhere", ref)
	}
	return to, parts[len(parts)-1]
}

// operations are all, by "METHOD path".
func (c *contract) operations() map[string]map[string]any {
	out := make(map[string]map[string]any)
	for path, item := range at2(c.root, "paths").(map[string]any) {
		for method, op := range item.(map[string]any) {
			out[strings.ToUpper(method)+" "+path] = op.(map[string]any)
		}
	}
	return out
}

// value compares a value with a schema: no field may be missing, none be more.
func (c *contract) value(where string, schema map[string]any, v any) {
	c.t.Helper()
	schema, name := c.resolve(schema)
	if name != "" {
		where = name
	}
	if either, ok := schema["oneOf"].([]any); ok {
		if v != nil {
			c.value(where, either[0].(map[string]any), v)
		}
		return
	}
	types := []string{}
	switch t := schema["type"].(type) {
	case string:
		types = append(types, t)
	case []any:
		for _, x := range t {
			types = append(types, x.(string))
		}
	}
	is := ""
	switch v := v.(type) {
	case nil:
		is = "null"
	case string:
		is = "string"
	case bool:
		is = "boolean"
	case float64:
		is = "number"
		if v == math.Trunc(v) && slices.Contains(types, "integer") {
			is = "integer"
		}
	case []any:
		is = "array"
	case map[string]any:
		is = "object"
	}
	if !slices.Contains(types, is) {
		c.wrong("%s: %v is %s, documented %v", where, v, is, types)
		return
	}
	if enum, ok := schema["enum"].([]any); ok && v != nil && !slices.Contains(enum, v) {
		c.wrong("%s: %v is not among %v", where, v, enum)
	}
	if s, ok := v.(string); ok && schema["format"] == "date-time" {
		if at, err := time.Parse(time.RFC3339Nano, s); err != nil || !strings.HasSuffix(s, "Z") || at.IsZero() {
			c.wrong("%s: %q is no time in UTC", where, s)
		}
	}
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			c.value(where+"[]", schema["items"].(map[string]any), item)
		}
	case map[string]any:
		properties, _ := schema["properties"].(map[string]any)
		required, _ := schema["required"].([]any)
		for _, r := range required {
			if _, ok := v[r.(string)]; !ok {
				c.wrong("%s: %s is missing", where, r)
			}
		}
		for field, value := range v {
			p, ok := properties[field].(map[string]any)
			if !ok {
				c.wrong("%s: %s is not documented", where, field)
				continue
			}
			c.seen[where+"."+field] = true
			if value != nil {
				c.seen[where+"."+field+"!"] = true
			}
			c.value(where+"."+field, p, value)
		}
	}
}

// answer compares an answer with what is documented.
func (c *contract) answer(method, path string, g got) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = append(c.kept, answered{method, path, g})
	c.compare(method, path, g)
}

// compare is answer for one that has the lock.
func (c *contract) compare(method, path string, g got) {
	name := ""
	for known := range c.operations() {
		m, pattern, _ := strings.Cut(known, " ")
		if m != method || !matches(pattern, strings.SplitN(path, "?", 2)[0]) {
			continue
		}
		if name == "" || strings.Count(pattern, "{") < strings.Count(name, "{") {
			name = known
		}
	}
	if name == "" && g.status == 404 {
		var v any
		must(c.t, json.Unmarshal([]byte(g.body), &v))
		c.value("stray", map[string]any{"$ref": "#/components/schemas/Error"}, v)
		return
	}
	if name == "" {
		c.wrong("%s %s: %d from a route that is not documented", method, path, g.status)
		return
	}
	raw, ok := at2(c.operations()[name], "responses", strconv.Itoa(g.status)).(map[string]any)
	if !ok {
		c.wrong("%s: status %d is not documented: %s", name, g.status, g.body)
		return
	}
	response, _ := c.resolve(raw)
	c.seen[fmt.Sprintf("%s %d", name, g.status)] = true
	if headers, ok := response["headers"].(map[string]any); ok {
		for h := range headers {
			if g.header.Get(h) != "" {
				c.seen[name+" "+h] = true
			}
		}
	}
	if response["content"] == nil && g.body == "" && g.header.Get("Content-Type") == "" {
		return
	}
	kind, _, _ := strings.Cut(g.header.Get("Content-Type"), ";")
	schema, ok := at2(response, "content", kind, "schema").(map[string]any)
	if !ok {
		c.wrong("%s: %d with the content %q is not documented", name, g.status, kind)
		return
	}
	if kind != "application/json" {
		return
	}
	var v any
	must(c.t, json.Unmarshal([]byte(g.body), &v))
	c.value(name, schema, v)
}

func matches(pattern, path string) bool {
	a, b := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && !strings.HasPrefix(a[i], "{") {
			return false
		}
	}
	return true
}

func TestOpenAPI_HasTheRoutesAndRolesOfTheServer(t *testing.T) {
	h := newHouse(t, nil)
	c := readContract(t)
	ops := c.operations()
	for _, r := range h.server.Table() {
		parts := strings.Split(r.Pattern, "/")
		for i, p := range parts {
			if name, ok := strings.CutPrefix(p, ":"); ok {
				parts[i] = "{" + name + "}"
			}
		}
		name := r.Method + " " + strings.Join(parts, "/")
		op := ops[name]
		if op == nil {
			t.Errorf("%s is not documented", name)
			continue
		}
		delete(ops, name)
		role := map[bool]any{true: "backup_operator", false: "admin"}[r.Operator]
		if r.Public {
			role = nil
		}
		if op["x-role"] != role {
			t.Errorf("%s: role %v is documented as %v", name, role, op["x-role"])
		}
	}
	for name := range ops {
		t.Errorf("%s is documented and not there", name)
	}
	if g := h.want(200, "", "GET", at+"/openapi.yaml", ""); g.body != string(openapi.YAML) {
		t.Error("what is served is not the file")
	}
}

func TestOpenAPI_HasTheFieldsOfTheGoTypes(t *testing.T) {
	c := readContract(t)
	left := maps.Clone(at2(c.root, "components", "schemas").(map[string]any))
	for name, v := range map[string]any{
		"Backup": api.Backup{}, "BackupDetails": api.BackupDetails{}, "Verification": api.Verification{}, "Failure": api.Failure{}, "Part": api.Part{},
		"Counts": api.Counts{}, "Problem": api.Problem{}, "Deleted": api.Deleted{}, "Progress": api.Progress{}, "Job": api.Job{}, "JobDetails": api.JobDetails{},
		"Restore": api.Restore{}, "RestoreReport": api.RestoreReport{}, "VerifyReport": api.VerifyReport{}, "Finding": api.Finding{}, "Damaged": api.Damaged{},
		"GCReport": api.GCReport{}, "Schedule": api.Schedule{}, "File": api.File{}, "Match": api.Match{}, "Diff": api.Diff{}, "Change": api.Change{},
		"DiffTotals": api.DiffTotals{}, "Stats": api.Stats{}, "RepositoryStats": api.RepositoryStats{}, "Source": api.Source{}, "Target": api.Target{},
		"Health": api.Health{}, "Error": api.ErrorBody{}, "BackupRequest": api.BackupRequest{}, "RestoreRequest": api.RestoreRequest{},
		"ScheduleRequest": api.ScheduleRequest{}, "Nothing": struct{}{},
	} {
		schema, ok := left[name].(map[string]any)
		if !ok {
			t.Errorf("%s is not documented", name)
			continue
		}
		delete(left, name)
		properties, _ := schema["properties"].(map[string]any)
		have := slices.Sorted(maps.Keys(properties))
		want := fieldsOf(reflect.TypeOf(v))
		slices.Sort(want)
		if !slices.Equal(have, want) {
			t.Errorf("%s: documented %v, Go has %v", name, have, want)
		}
		if required, ok := schema["required"].([]any); !strings.HasSuffix(name, "Request") && name != "Nothing" && name != "Error" && (!ok || len(required) != len(properties)) {
			t.Errorf("%s: a field is not required, but is always there", name)
		}
	}
	for name := range left {
		t.Errorf("%s is documented and no type of ours", name)
	}
}

func fieldsOf(t reflect.Type) (out []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			out = append(out, fieldsOf(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out = append(out, name)
	}
	return out
}

func TestOpenAPI_HasTheParametersAndBodiesTheServerTakes(t *testing.T) {
	h := newHouse(t, nil)
	c := readContract(t)
	id := h.backup(`{}`)
	job := h.want(202, h.admin, "POST", at+"/restore/"+id+"?wait=60", `{}`).decode(t)["job_id"].(string)
	schedule := h.want(201, h.admin, "POST", at+"/schedule", `{"cron":"@daily"}`).decode(t)["id"].(string)
	known := func(g got) []string {
		_, list, ok := strings.Cut(g.decode(t)["message"].(string), "it takes ")
		if !ok {
			t.Errorf("%s", g.body)
		}
		if list == "none" {
			return nil
		}
		return strings.Split(list, ", ")
	}
	for name, op := range c.operations() {
		method, path, _ := strings.Cut(name, " ")
		path = strings.NewReplacer("{backup_id}", id, "{job_id}", job, "{schedule_id}", schedule).Replace(path)
		if op["x-role"] == nil || path == "/metrics" {
			continue
		}
		var documented []string
		examples := ""
		list, _ := op["parameters"].([]any)
		for _, p := range list {
			p, _ := c.resolve(p.(map[string]any))
			if p["in"] == "query" {
				documented = append(documented, p["name"].(string))
				if e := at2(p, "schema", "example"); e != nil {
					examples += fmt.Sprintf("&%s=%v", p["name"], e)
				}
			}
		}
		slices.Sort(documented)
		if got := known(h.want(400, h.admin, method, path+"?zzz=1"+examples, "")); !slices.Equal(got, documented) {
			t.Errorf("%s: takes the parameters %v, documented %v", name, got, documented)
		}
		schema, ok := at2(op, "requestBody", "content", "application/json", "schema").(map[string]any)
		if (method == "POST" || method == "PUT") != ok {
			t.Errorf("%s: a body is documented: %v", name, ok)
		}
		if !ok {
			continue
		}
		schema, _ = c.resolve(schema)
		properties, _ := schema["properties"].(map[string]any)
		if got, want := known(h.want(400, h.admin, method, path, `{"zzz":1}`)), slices.Sorted(maps.Keys(properties)); !slices.Equal(got, want) {
			t.Errorf("%s: takes the fields %v, documented %v", name, got, want)
		}
	}
}
