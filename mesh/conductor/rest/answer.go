package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"banmesh/mesh/conductor"
)

var (
	errHTML      = errors.New("the answer is HTML instead of JSON; is this the address of a conductor's API?")
	errTruncated = errors.New("the answer's JSON ends in the middle")
	errNoJSON    = errors.New("the answer is no JSON")
	errBlank     = errors.New("answered nothing")
	errNoName    = errors.New("it has no name")
)

// checkJSON checks that a body is one whole JSON value, or empty.
func checkJSON(b []byte) error {
	t := bytes.TrimSpace(b)
	switch {
	case len(t) == 0 || json.Valid(t):
		return nil
	case t[0] == '<':
		return errHTML
	}
	var v json.RawMessage
	var syntax *json.SyntaxError
	if err := json.Unmarshal(t, &v); errors.As(err, &syntax) && strings.Contains(syntax.Error(), "unexpected end") {
		return errTruncated
	}
	return errNoJSON
}

// asMessage returns the answer to a call that changes something, and is not asked for data, as JSON. Some servers answer such a call with a word or a sentence,
// which is taken as a message: what came of the call is read back.
func asMessage(b []byte) []byte {
	t := bytes.TrimSpace(b)
	// A page or a long text is no message, and checkJSON says what it is.
	if len(t) == 0 || len(t) > 1024 || !unicode.IsLetter(rune(t[0])) || json.Valid(t) {
		return b
	}
	message, err := json.Marshal(map[string]string{"message": string(t)})
	if err != nil {
		return b
	}
	return message
}

// saying returns the messages in the body of a refusal.
func saying(b []byte) []string {
	if m := messages(b); len(m) > 0 {
		return m
	}
	t := bytes.TrimSpace(b)
	if len(t) == 0 || t[0] == '<' || json.Valid(t) {
		return nil // empty, an HTML page, or a value without words
	}
	return []string{conductor.OneLine(string(t))}
}

// complaints returns the messages of a successful answer to validate or commit that say that something is wrong. A single
// sentence after a validation and an entry that calls itself a warning do not count; after a commit, running decides.
func complaints(step string, b []byte) []string {
	var v any
	if json.Unmarshal(b, &v) != nil {
		return nil
	}
	switch answer := v.(type) {
	case []any:
		v = slices.DeleteFunc(answer, harmless)
	case map[string]any:
		// A single object after a validation may say that all is well; one with one of these names does not.
		_, failed := answer["error"]
		_, failures := answer["errors"]
		if harmless(v) || step == "validate" && !failed && !failures && answer["severity"] == nil {
			return nil
		}
	}
	return appendMessages(nil, v, 0)
}

// harmless reports whether an entry says that its severity is below error.
func harmless(entry any) bool {
	object, _ := entry.(map[string]any)
	severity, _ := object["severity"].(string)
	switch strings.ToLower(severity) {
	case "warning", "info", "information", "notice":
		return true
	}
	return false
}

// messages collects the complaints in an answer to validate or commit: a list of {"message"}, or one such object. An empty
// list, an empty answer and anything without a message mean success.
func messages(b []byte) []string {
	var v any
	if json.Unmarshal(b, &v) != nil {
		return nil
	}
	return appendMessages(nil, v, 0)
}

// maxMessages bounds the messages kept from one answer.
const maxMessages = 200

// appendMessages collects the texts from the forms that servers use: lists, objects with a message, lists of those. It is
// bounded in depth and number, because the answer may come from anything that listens at the address.
func appendMessages(out []string, v any, depth int) []string {
	if depth > 3 || len(out) >= maxMessages {
		return out
	}
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			before := len(out)
			if out = appendMessages(out, item, depth+1); len(out) == before && depth == 0 && len(out) < maxMessages {
				// An entry without a message is a complaint all the same.
				text, err := json.Marshal(item)
				if err == nil {
					out = append(out, conductor.OneLine(string(text)))
				}
			}
		}
	case map[string]any:
		for _, key := range []string{"message", "error", "detail"} {
			if s, ok := v[key].(string); ok && s != "" {
				return append(out, conductor.OneLine(s))
			}
		}
		for _, key := range []string{"messages", "errors"} {
			if list, ok := v[key].([]any); ok {
				out = appendMessages(out, list, depth+1)
			}
		}
	case string:
		if depth > 0 && v != "" {
			return append(out, conductor.OneLine(v))
		}
	}
	return out
}

// retryAfter parses Retry-After (RFC 9110 §10.2.3): seconds or a date. 0 seconds mean at once, and not that nothing is said.
func retryAfter(s string, now time.Time) time.Duration {
	if s == "" {
		return 0
	}
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return min(max(time.Duration(n)*time.Second, time.Millisecond), maxAfter)
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, min(at.Sub(now), maxAfter))
	}
	return 0
}
