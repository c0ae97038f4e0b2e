/* Extensions that must be switched on before they are used. In OpenCL C 3.0 some are features of the language instead,
 * and have no pragma: hence the conditions. */
#ifndef QD_FEATURES_H
#define QD_FEATURES_H

#ifdef cl_khr_fp16
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#endif
#ifdef cl_khr_subgroups
#pragma OPENCL EXTENSION cl_khr_subgroups : enable
#endif
#ifdef cl_khr_integer_dot_product
#pragma OPENCL EXTENSION cl_khr_integer_dot_product : enable
#endif

#endif
