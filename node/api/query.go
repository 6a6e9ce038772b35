package api

import (
	"bytes"
	"strconv"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers/item"
)

// params calls fn with each parameter of the raw query, decoded. fn reports
// whether it knows the name. Unknown and repeated names are problems; a plus
// is a plus.
func params(query []byte, fn func(name, value string) (known bool, p *problem.Problem)) *problem.Problem {
	return paramsRepeating(query, "", fn)
}

// paramsRepeating is params for a query in which one name may be repeated.
func paramsRepeating(query []byte, repeating string, fn func(name, value string) (known bool, p *problem.Problem)) *problem.Problem {
	seen := map[string]bool{}
	for part := range bytes.SplitSeq(query, []byte("&")) {
		if len(part) == 0 {
			continue
		}
		name, value, p := param(part)
		if p != nil {
			return p
		}
		if seen[name] && name != repeating {
			return problem.Newf(problem.RepeatedParameter, "%q stands more than once", name)
		}
		seen[name] = true
		known, p := fn(name, value)
		if p != nil {
			return p
		}
		if !known {
			return problem.Newf(problem.UnknownParameter, "%q is not known here", name)
		}
	}
	return nil
}

// param decodes one name=value.
func param(part []byte) (name, value string, p *problem.Problem) {
	rawName, rawValue, _ := bytes.Cut(part, []byte("="))
	var text [2]string
	for i, raw := range [...][]byte{rawName, rawValue} {
		decoded, p := appendDecoded(nil, raw)
		if p != nil {
			return "", "", &problem.Problem{Kind: problem.BadParameter, Detail: "in the query, " + p.Detail}
		}
		if !cleanText(decoded) {
			return "", "", problem.New(problem.BadParameter, "the query holds a control character or invalid UTF-8")
		}
		text[i] = string(decoded)
	}
	return text[0], text[1], nil
}

// noParams refuses any parameter.
func noParams(query []byte) *problem.Problem {
	if len(query) == 0 {
		return nil
	}
	return params(query, func(string, string) (bool, *problem.Problem) { return false, nil })
}

// flagParam reads a parameter that is on or off.
func flagParam(name, value string, dst *bool) *problem.Problem {
	switch value {
	case "1", "true":
		*dst = true
	case "0", "false":
		*dst = false
	default:
		return problem.Newf(problem.BadParameter, "%s is %q, allowed are 1, true, 0, false", name, value)
	}
	return nil
}

// versionParam reads a version above 0.
func versionParam(name, value string, dst *item.Version) *problem.Problem {
	v, err := item.ParseVersion(value)
	if err != nil || v == 0 {
		return problem.Newf(problem.BadVersion, "%s is %q, allowed are decimal numbers above 0 and below 2^64", name, value)
	}
	*dst = v
	return nil
}

// intParam reads a number from lo to hi.
func intParam(name, value string, lo, hi int, dst *int) *problem.Problem {
	n, err := strconv.Atoi(value)
	if err != nil || n < lo || n > hi {
		return problem.Newf(problem.BadParameter, "%s is %q, allowed are %d to %d", name, value, lo, hi)
	}
	*dst = n
	return nil
}
