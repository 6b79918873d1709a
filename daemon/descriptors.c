#include "descriptors.h"

#include "wire.h"

#include <assert.h>

void descriptors_init(struct descriptors *d, size_t limit)
{
        *d = (struct descriptors){.limit = limit, .reserve = limit / 4 < PL_FDS_RESERVE ? limit / 4 : PL_FDS_RESERVE, .used = DESCRIPTORS_OWN};
}

void descriptors_watch(struct descriptors *d, void (*changed)(void *arg), void *arg)
{
        d->changed = changed;
        d->arg = arg;
}

void descriptors_lend(struct descriptors *d, void (*give_back)(void *lender), void *lender)
{
        d->give_back = give_back;
        d->lender = lender;
}

size_t descriptors_free(const struct descriptors *d)
{
        return d->used < d->limit ? d->limit - d->used : 0;
}

size_t descriptors_for_locks(const struct descriptors *d)
{
        return d->limit - 2 * d->reserve;
}

static enum descriptors_level level_of(const struct descriptors *d)
{
        size_t unused = descriptors_free(d);

        if (unused >= 2 * d->reserve)
                return DESCRIPTORS_PLENTY;
        if (unused >= d->reserve)
                return DESCRIPTORS_NO_HOARDING;
        return unused > DESCRIPTORS_LAST ? DESCRIPTORS_NO_CONNECTIONS : DESCRIPTORS_EXHAUSTED;
}

static void look(struct descriptors *d)
{
        enum descriptors_level level = level_of(d);

        if (level == d->level)
                return;
        d->level = level;
        if (d->changed != NULL)
                d->changed(d->arg);
}

void descriptors_add(struct descriptors *d)
{
        d->used++;
        if (level_of(d) > DESCRIPTORS_PLENTY && d->give_back != NULL)
                d->give_back(d->lender);
        look(d);
}

void descriptors_remove(struct descriptors *d)
{
        assert(d->used > DESCRIPTORS_OWN);
        d->used--;
        look(d);
}
