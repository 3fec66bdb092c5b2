package enforce

import "errors"

// ErrStale is a driver's error when the router does not hold what was thought: somebody else changed it, or something
// expired.
var ErrStale = errors.New("the router holds something else than expected")
