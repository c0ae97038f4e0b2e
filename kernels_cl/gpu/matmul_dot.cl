/* matmul_blocks.cl with the packed dot product of four bytes: a work-item is one row of w against QD_TOKENS rows of x.
 */
#define QD_PACKED_DOT
#define QD_DOT_KHR
#include "matmul_blocks.cl"
