package main

import (
	"context"

	"github.com/edgenode/edgenode/node"
	"github.com/edgenode/edgenode/node/config"
)

// configFlag names the configuration file.
type configFlag struct {
	Config string `short:"c" type:"path" env:"EDGENODE_CONFIG" placeholder:"FILE" help:"Configuration file; without one every key has its default. EDGENODE_<KEY> in the environment wins over it."`
}

// load reads the configuration.
func (f *configFlag) load(p *process) (*config.Config, error) {
	return config.Load(config.Source{Path: f.Config, Env: p.environ})
}

// serveCommand runs a node until a signal.
type serveCommand struct{ configFlag }

// Run returns when the node has stopped: nil after SIGTERM or SIGINT.
func (c *serveCommand) Run(p *process) error {
	return node.Run(context.Background(), node.RunOptions{
		Load:       func() (*config.Config, error) { return c.load(p) },
		ConfigFile: c.Config,
		Log:        p.err,
		Out:        p.out,
		Signals:    p.signals,
		Environ:    p.environ,
	})
}
