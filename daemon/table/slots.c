/* Records by ids that are never used again: the number of a place, and of how often it was taken. */
#include "internal.h"

#include <stdlib.h>

bool slots_reserve(struct slots *s)
{
        struct slot *grown;
        size_t cap;

        if (s->free != 0 || s->count < s->cap)
                return true;
        cap = s->cap == 0 ? 64 : s->cap * 2;
        if (cap > (1u << 20))
                cap = s->cap + (1u << 20);
        grown = realloc(s->items, cap * sizeof *grown);
        if (grown == NULL)
                return false;
        s->items = grown;
        s->cap = cap;
        return true;
}

/* Ids stay below 2^53, so that JSON carries them whole: 24 bits of slot, 29 of generation. */
#define SLOT_BITS 24
#define GENERATION_MASK 0x1fffffffu

table_id slots_put(struct slots *s, void *record)
{
        struct slot *slot;

        if (s->free != 0) {
                slot = &s->items[s->free - 1];
                s->free = slot->next_free;
        } else {
                slot = &s->items[s->count++];
                slot->generation = 0;
        }
        slot->record = record;
        slot->next_free = 0;
        slot->generation = (slot->generation + 1) & GENERATION_MASK;
        if (slot->generation == 0)
                slot->generation = 1;
        return (table_id)slot->generation << SLOT_BITS | (table_id)(slot - s->items);
}

void *slots_get(const struct slots *s, table_id id)
{
        size_t index = id & ((1u << SLOT_BITS) - 1);

        if (index >= s->count || s->items[index].generation != id >> SLOT_BITS)
                return NULL;
        return s->items[index].record;
}

void slots_remove(struct slots *s, table_id id)
{
        uint32_t index = (uint32_t)(id & ((1u << SLOT_BITS) - 1));

        s->items[index].record = NULL;
        s->items[index].next_free = s->free;
        s->free = index + 1;
}
