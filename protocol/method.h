/* The methods' names and params: a row each. */
#ifndef PL_METHOD_H
#define PL_METHOD_H

#include "message.h"

/* -1 when there is no such method. */
int pl_method_find(struct pl_span name);

/* Read `params` (NULL: absent) of r->method into the request. Returns 0, or -1 with code, member and text of the fault set. */
int pl_method_params(struct pl_request *r, const struct pl_json *params, struct pl_fault *fault);

#endif
