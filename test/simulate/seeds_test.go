//go:build !race

package simulate

// usualSeeds takes about 45 seconds of two processors.
const usualSeeds = 1000
