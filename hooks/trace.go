package hooks

import "github.com/edgenode/edgenode/hooks/abi"

// A Step is what one module of a chain said about a request.
type Step struct {
	Module  string
	Asked   bool    // false: its match left the request out, or an earlier module ended the chain
	Verdict Verdict // of the chain after it, with Asked
	Fault   string  // why there was no verdict of its own; "" if there was
}

// TraceRoute asks the route chain as Route does and returns what each module said,
// in the order of the chain. It is for people: it counts as calls, and allocates.
func (h *Host) TraceRoute(req *Request) []Step {
	g := h.gen.Load()
	if g == nil {
		return nil
	}
	var out Decision
	out.Reset()
	steps := make([]Step, 0, len(g.chains[abi.Route]))
	ended := false
	for _, m := range g.chains[abi.Route] {
		s := Step{Module: m.spec.Name}
		if !ended && m.matches(req) {
			why, retired := m.decide(abi.Route, req, &out)
			if retired {
				s.Fault = "the hooks were being replaced; ask again"
				return append(steps, s)
			}
			if s.Asked = true; why != faultNone {
				s.Fault = why.String()
				m.onFault(&out)
			}
			s.Verdict = out.Verdict
			ended = out.Verdict >= Deny
		}
		steps = append(steps, s)
	}
	return steps
}
