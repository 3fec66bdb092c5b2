package gossip

// SetDirectMax lets a small mesh act as a large one does.
func (c *Config) SetDirectMax(n int) { c.tuning.DirectMax = n }
