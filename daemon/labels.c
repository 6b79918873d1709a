#include "labels.h"

#include "hash.h"

#include <stdlib.h>

struct label {
        struct link by_text;
        uint32_t users;
        char text[];
};

#define LABEL(l) chains_owner(l, struct label, by_text)

static struct label *label_of(const char *text)
{
        return (struct label *)((uintptr_t)text - offsetof(struct label, text));
}

static uint64_t hash_of_text(const struct link *l)
{
        return hash_bytes(LABEL(l)->text, strlen(LABEL(l)->text));
}

bool labels_init(struct labels *l)
{
        return chains_init(&l->texts, hash_of_text);
}

void labels_clear(struct labels *l)
{
        chains_clear(&l->texts);
}

static struct label *find(const struct labels *labels, const char *text, size_t len)
{
        struct link *l;

        for (l = chains_first(&labels->texts, hash_bytes(text, len)); l != NULL; l = chains_next(l))
                if (strcmp(LABEL(l)->text, text) == 0)
                        return LABEL(l);
        return NULL;
}

const char *labels_find(const struct labels *l, const char *text)
{
        const struct label *label = find(l, text, strlen(text));

        return label != NULL ? label->text : NULL;
}

const char *labels_get(struct labels *l, const char *text)
{
        size_t len = strlen(text);
        struct label *label = find(l, text, len);

        if (label == NULL) {
                label = chains_reserve(&l->texts, 1) ? malloc(sizeof *label + len + 1) : NULL;
                if (label == NULL)
                        return NULL;
                memcpy(label->text, text, len + 1);
                label->users = 0;
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

        if (--label->users > 0)
                return;
        chains_remove(&l->texts, &label->by_text);
        free(label);
}
