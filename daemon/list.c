/* list: its path is looked up, then outsiders if they are wanted, then a page is written. */
#include "dispatch_internal.h"

#include <errno.h>

/* `key` NULL: all files, or those that are called as asked. */
static void write_page(struct dispatch *d, const struct client *c, const struct pl_request *r, const struct table_key *key)
{
        struct pl_writer w;

        if (account_clogged(c->account)) {
                dispatch_refuse_limit(d, c, &r->id, "backlog_per_uid", "too much of what this user's sessions were sent is unread");
                return;
        }
        pl_reply_begin(&w, &d->out, &r->id);
        if (listing_write(&d->listing, &w, c, &r->list, key, key == NULL ? r->list.path : NULL) != 0) {
                d->out.len = 0;
                dispatch_refuse_member(d, c, &r->id, "after", "params.after is not a value of `next` from a list");
                return;
        }
        pl_reply_end(&w);
        dispatch_flush_answer(d, c, &r->id);
}

static void write_none(struct dispatch *d, const struct client *c, const struct pl_request *r)
{
        struct pl_writer w;

        pl_reply_begin(&w, &d->out, &r->id);
        pl_write_open(&w, "locks", '[');
        pl_write_close(&w, ']');
        pl_reply_end(&w);
        dispatch_flush_answer(d, c, &r->id);
}

static void known(struct dispatch *d, struct client *c, struct incoming *in, const struct table_key *key)
{
        struct kept *k;

        /* One at a time: many that wait would all be answered at once, however much that is. */
        if (in->request.list.outside && c->list_waits == NULL && outside_refresh(d->outside) && (k = kept_add(&d->lists, d, c, in)) != NULL) {
                k->has_key = key != NULL;
                if (key != NULL)
                        k->key = *key;
                c->list_waits = k;
                return;
        }
        write_page(d, c, &in->request, key);
}

static void identified(struct dispatch *d, struct client *c, struct incoming *in, const struct files_found *found)
{
        if (found->result == FILES_OK)
                known(d, c, in, &found->key);
        else if (found->error.error == ENOENT)
                write_none(d, c, &in->request);         /* no file, no lock */
        else
                dispatch_refuse_os(d, c, &in->request.id, &found->error, in->request.list.path);
}

void list_request(struct dispatch *d, struct client *c, struct incoming *in)
{
        if (in->request.list.path == NULL || !dispatch_opens_paths(d, c))
                known(d, c, in, NULL);
        else
                deferred_identify(d, c, in, in->request.list.path, identified);
}

void list_outside_refreshed(struct dispatch *d)
{
        struct kept_list refreshed = TAILQ_HEAD_INITIALIZER(refreshed);
        struct kept *k;

        TAILQ_CONCAT(&refreshed, &d->lists, entry);
        while ((k = TAILQ_FIRST(&refreshed)) != NULL) {
                k->client->list_waits = NULL;
                write_page(d, k->client, &k->incoming.request, k->has_key ? &k->key : NULL);
                kept_remove(&refreshed, k);
        }
}

void list_stop(struct dispatch *d)
{
        struct kept *k;

        while ((k = TAILQ_FIRST(&d->lists)) != NULL) {
                k->client->list_waits = NULL;
                dispatch_refuse(d, k->client, &k->incoming.request.id, PL_E_SHUTTING_DOWN, NULL);
                kept_remove(&d->lists, k);
        }
}
