package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// maxAnswer bounds the provider's answer in bytes.
const maxAnswer = 256 << 10

// answer is what of an introspection (RFC 7662) decides.
type answer struct {
	active   bool
	subject  string
	issuer   string   // "" when absent
	audience []string // nil when absent
	expires  int64    // seconds since 1970, 0 when absent
	before   int64    // 0 when absent
	roles    []string
}

const projectRoles = "urn:zitadel:iam:org:project:roles"

// parseAnswer reads a provider's answer. project is the id of the project whose
// own role claim counts beside the general ones, "" for none: an administrator of
// another project is none here.
func parseAnswer(data []byte, project string) (a answer, err error) {
	if len(data) > maxAnswer {
		return answer{}, errors.New("answer is too long")
	}
	o, err := parseObject(data)
	if err != nil {
		return answer{}, err
	}
	switch string(o["active"]) {
	case "true":
	case "false":
		return answer{}, nil
	default:
		return answer{}, errors.New("active is neither true nor false")
	}
	if o.has("token_type") {
		typ, err := o.text("token_type", 40)
		if err != nil {
			return answer{}, err
		}
		// A refresh or id token that a provider calls active is no credential.
		if !strings.EqualFold(typ, "bearer") && !strings.EqualFold(typ, "access_token") {
			return answer{}, nil
		}
	}
	for _, name := range []string{"sub", "username", "client_id"} {
		if a.subject == "" && o.has(name) {
			if a.subject, err = o.text(name, maxText); err != nil {
				return answer{}, err
			}
		}
	}
	if a.subject, err = cleanSubject(a.subject); err != nil {
		return answer{}, err
	}
	if o.has("iss") {
		if a.issuer, err = o.text("iss", maxText); err != nil {
			return answer{}, err
		}
	}
	if o.has("aud") {
		if a.audience, err = o.texts("aud"); err != nil {
			return answer{}, err
		}
	}
	if o.has("exp") {
		if a.expires, err = o.numericDate("exp"); err != nil {
			return answer{}, err
		}
		a.expires = max(1, a.expires)
	}
	if o.has("nbf") {
		if a.before, err = o.numericDate("nbf"); err != nil {
			return answer{}, err
		}
	}
	claims := []string{"roles", projectRoles}
	if project != "" {
		claims = append(claims, "urn:zitadel:iam:org:project:"+project+":roles")
	}
	for _, name := range claims {
		if o.has(name) {
			roles, err := roleKeys(o[name])
			if err != nil {
				return answer{}, fmt.Errorf("%s: %w", clean(name, 80), err)
			}
			a.roles = append(a.roles, roles...)
		}
	}
	a.active = true
	return a, nil
}

// roleKeys reads a role claim in the shapes that Zitadel gives it:
//
//	{"admin": {"123": "org.example"}, "viewer": {…}}
//	["admin", "viewer"]
//	[{"admin": {"123": "org.example"}}, {"viewer": {…}}]
func roleKeys(raw json.RawMessage) ([]string, error) {
	switch kind(raw) {
	case '{':
		o, err := parseObject(raw)
		if err != nil {
			return nil, err
		}
		return slices.Collect(maps.Keys(o)), nil
	case '[':
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil || len(list) > maxMembers {
			return nil, errObject
		}
		var keys []string
		for _, each := range list {
			switch kind(each) {
			case '"':
				var s string
				if json.Unmarshal(each, &s) != nil {
					return nil, errObject
				}
				keys = append(keys, s)
			case '{':
				o, err := parseObject(each)
				if err != nil || len(keys)+len(o) > maxMembers {
					return nil, errObject
				}
				keys = slices.AppendSeq(keys, maps.Keys(o))
			default:
				return nil, errObject
			}
		}
		return keys, nil
	}
	return nil, errObject
}

// verdict is what an introspection comes to, as it is kept.
type verdict struct {
	principal Principal
	err       *Error // nil: let in
	until     time.Time
}

// judgement of an answer at now: for whom the provider vouches, or why not.
func (in *introspector) judgement(a answer, now time.Time) (Principal, *Error) {
	refused := func(why string) (Principal, *Error) {
		return Principal{}, invalid("the token is not valid", errors.New("introspection: "+why))
	}
	switch {
	case !a.active:
		return refused("not active")
	case in.issuer != "" && a.issuer != "" && a.issuer != in.issuer:
		return refused("of another issuer")
	case a.audience != nil && !slices.ContainsFunc(a.audience, func(s string) bool { return slices.Contains(in.audience, s) }):
		return refused("for another audience")
	case a.before != 0 && time.Unix(a.before, 0).After(now.Add(leeway)):
		return refused("not valid yet")
	case a.expires != 0 && !now.Before(time.Unix(a.expires, 0).Add(leeway)):
		return Principal{}, expired("the token has expired: log in again")
	}
	p := Principal{Name: a.subject, Role: in.roles.best(a.roles), Method: MethodOIDC}
	if a.expires != 0 {
		p.Expires = time.Unix(a.expires, 0).UTC()
	}
	return p, nil
}
