package admin

import (
	"bytes"
	"strings"

	"github.com/edgenode/edgenode/node/loopback"
	"github.com/edgenode/edgenode/node/problem"
)

// admit returns the page of a request that may see it, else what to answer.
func (a *Admin) admit(x Exchange) (*Page, *problem.Problem) {
	page := a.find(x.Target())
	if p := a.mayEnter(x, page); p != nil {
		return nil, p
	}
	if page == nil {
		return nil, &problem.Problem{Kind: problem.UnknownPath}
	}
	if !allows(page.Methods, x.Method()) {
		return nil, &problem.Problem{Kind: problem.MethodNotAllowed, Allow: page.Methods}
	}
	return page, changeable(x)
}

// mayEnter decides who may come in. The check of Origin holds everywhere: a
// browser sends client certificates for every page that asks, too.
func (a *Admin) mayEnter(x Exchange, page *Page) *problem.Problem {
	if a.o.Loopback {
		if !x.Local() || !loopback.Host(x.Host()) {
			return problem.New(problem.NotLocal, "this listener answers only requests of this machine to localhost or a loopback address")
		}
	} else if !(page != nil && page.Open) && !a.o.ClientCertificates {
		if p := a.hasToken(x); p != nil {
			return p
		}
	}
	if !loopback.SameOrigin(x.Header("Origin"), x.Scheme(), x.Host()) {
		return &problem.Problem{Kind: problem.ForeignOrigin}
	}
	return nil
}

func (a *Admin) hasToken(x Exchange) *problem.Problem {
	if a.o.Gate == nil {
		return problem.New(problem.ScopeMissing, "no tokens are configured")
	}
	return a.o.Gate.Admin(x.Header("Authorization"))
}

// allows reports whether a list of methods has m.
func allows(methods, m string) bool {
	for one := range strings.SplitSeq(methods, ", ") {
		if one == m {
			return true
		}
	}
	return false
}

// changeable refuses a change in a content type that a form of a web page could
// send.
func changeable(x Exchange) *problem.Problem {
	switch x.Method() {
	case "GET", "HEAD":
		return nil
	}
	media, _, _ := bytes.Cut(x.Header("Content-Type"), []byte(";"))
	switch strings.ToLower(string(bytes.Trim(media, " \t"))) {
	case "application/json", "application/toml", "application/wasm":
		return nil
	}
	return problem.New(problem.UnsupportedMediaType, "changes are taken as application/json, application/toml or application/wasm")
}
