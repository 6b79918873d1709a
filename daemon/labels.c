#include "labels.h"

#include "hash.h"

#include <stdlib.h>

struct label {
        struct link by_text;
        uint32_t users, hash;
        char text[];
};

#define LABEL(l) chains_owner(l, struct label, by_text)

static struct label *label_of(const char *text)
{
        return (struct label *)((uintptr_t)text - offsetof(struct label, text));
}

static uint64_t hash_of_text(const struct link *l)
{
        return LABEL(l)->hash;
}

/* Where a text of so many bytes belongs; NULL: it is longer than most, and malloc(3)'s. */
static struct pool *pool_of(struct labels *l, size_t len)
{
        size_t i = (offsetof(struct label, text) + len) / 16;

        return i < LABELS_POOLS ? &l->pools[i] : NULL;
}

bool labels_init(struct labels *l)
{
        size_t i;

        for (i = 0; i < LABELS_POOLS; i++)
                pool_init(&l->pools[i], (i + 1) * 16, false);
        return chains_init(&l->texts, hash_of_text);
}

void labels_clear(struct labels *l)
{
        size_t i;

        for (i = 0; i < LABELS_POOLS; i++)
                pool_clear(&l->pools[i]);
        chains_clear(&l->texts);
}

static struct label *find(const struct labels *labels, const char *text, uint32_t hash)
{
        struct link *l;

        for (l = chains_first(&labels->texts, hash); l != NULL; l = chains_next(l))
                if (LABEL(l)->hash == hash && strcmp(LABEL(l)->text, text) == 0)
                        return LABEL(l);
        return NULL;
}

const char *labels_find(const struct labels *l, const char *text)
{
        const struct label *label = find(l, text, hash_bytes(text, strlen(text)));

        return label != NULL ? label->text : NULL;
}

static struct label *make(struct labels *l, size_t len)
{
        struct pool *p = pool_of(l, len);

        return p != NULL ? pool_take(p) : malloc(sizeof(struct label) + len + 1);
}

const char *labels_get(struct labels *l, const char *text)
{
        size_t len = strlen(text);
        uint32_t hash = hash_bytes(text, len);
        struct label *label = find(l, text, hash);

        if (label == NULL) {
                label = chains_reserve(&l->texts, 1) ? make(l, len) : NULL;
                if (label == NULL)
                        return NULL;
                memcpy(label->text, text, len + 1);
                label->users = 0;
                label->hash = hash;
                chains_add(&l->texts, &label->by_text);
        }
        label->users++;
        return label->text;
}

const char *labels_keep(const char *label)
{
        label_of(label)->users++;
        return label;
}

void labels_drop(struct labels *l, const char *text)
{
        struct label *label = label_of(text);
        struct pool *p;

        if (--label->users > 0)
                return;
        chains_remove(&l->texts, &label->by_text);
        p = pool_of(l, strlen(text));
        if (p != NULL)
                pool_give(p, label);
        else
                free(label);
}
