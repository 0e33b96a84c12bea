// This package is odd.
package odd
