/*
 * What was held before the daemon died, or before the connection broke.
 *
 * The lock has stayed on the client's description, and the kernel is the witness: it is the client's again, with its old token, if and only if the
 * description still bears it in the mode claimed. Else it is lost, even if nobody else has it now: it may have been broken or dropped, and somebody may
 * have come and gone meanwhile. A claim never queues; new requests are kept out by the kernel until it comes.
 *
 * The kernel may have more than is claimed: an upgrade was granted, or a downgrade not yet done, when the daemon died before its answer. Then it is brought
 * down to what the client knows of, which has no gap; unless another session has claimed all of it, by the same description: one lock is one for all of
 * them, and that one's must not become less behind its back.
 */
#include "internal.h"

/*
 * What can be given back at most. What this very daemon has just taken, or may be taking, for a request that waits with the description is not what is
 * claimed: the description did not bear that when the request came.
 */
static enum table_mode borne(const struct request *q, const struct request *other, const struct table_event *ev)
{
        const struct request *op = q->resource->line->op;
        const struct bearer *b = q->bearer;
        bool busy = op != NULL && op->bearer == b;

        if (b->holders == 0)
                return busy || other != NULL ? b->left : ev->bears;
        if (busy)
                return b->mode;         /* it is being converted: what fdinfo shows may be over already */
        return ev->bears < b->mode ? ev->bears : b->mode;
}

/* The record for this session: its own, one beside its co-holders', or the first. */
static struct holder *join(struct table *t, struct request *q, enum table_mode mode, uint64_t token)
{
        struct owner own = store_owner(q);
        struct bearer *b = q->bearer;
        struct holder *h;

        h = store_holder(t, &own);
        if (b->has_trial && b->holders == 1)
                store_holder_by(q->resource, b)->token = token;  /* he wants more of what it bears, and had not claimed that: this is the lock he found */
        if (h == NULL) {
                if (b->holders == 0)
                        b->mode = mode;
                h = store_hold(t, q, b->mode, b->holders == 0 ? token : store_holder_by(q->resource, b)->token);
                store_keep_bearer(t, b);        /* the request's own reference goes with the request */
        }
        store_set_trial(h, false);
        b->unlock_due = false;
        return h;
}

void reclaim(struct table *t, struct request *q, const struct request *other, const struct table_event *ev)
{
        enum table_mode mode = borne(q, other, ev);
        size_t before = q->bearer->holders;
        struct holder *h;

        if (ev->shared || mode < ev->claims) {
                refuse_request(t, q, ev, OUT_LOST);
                return;
        }
        table_raise_numbers(t, ev->claimed_token);
        h = join(t, q, mode, ev->claimed_token);
        if (ev->claims == TABLE_SH && (before == 0 || h->bearer->holders == before))
                queue_downgrade(t, h);  /* it has not just joined others */
        queue_regrant(t, q, h);
}
