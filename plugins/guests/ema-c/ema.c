/* A moving average with state, in C without a C library: `foreline model check` makes a component of it.
 *
 * Feature   x, a row without it is not sent
 * Output    ema, its exponential average by key
 * State     the average, one number a key; the host keeps it, NaN for a key that was not seen before
 * Config    alpha is the weight of a new value, above 0 and at most 1; 0.25 where it is left out
 *
 * The structures are those of plugins/wit/model.wit as the component model lays them out in memory: 32-bit pointers,
 * little endian. A list or a string is a pointer and a count. What a function answers is the address of its result,
 * which must stay until its `cabi_post_` function is called. */

typedef unsigned char u8;
typedef unsigned int u32;

#define EXPORT(name) __attribute__((export_name(name)))
#define SCORER "foreline:model/scorer@0.2.0#"

typedef struct { const void *at; u32 count; } list;
typedef struct { u32 is_some; list text; } optional_text;

typedef struct {
    list name;
    optional_text unit;
    u8 missing;                          /* 0 skip-row, 1 pass-nan */
    u32 has_range;
    double low, high;
} feature;
_Static_assert(sizeof(feature) == 48, "feature");

typedef struct {
    list name;
    u32 kind;                            /* 0 remaining-life, 1 probability, 2 anomaly-score, 3 class-index, 4 value */
    list kind_unit;
    list labels;
} output;
_Static_assert(sizeof(output) == 28, "output");

typedef struct {
    list name, version, features, outputs;
    u32 state_width, state_version, max_rows;
    list annotations;
} descriptor;
_Static_assert(sizeof(descriptor) == 52, "descriptor");

/* Results: a tag (0 ok, 1 err), then what was answered. An error: its kind, then its text. */
typedef struct { u32 kind; list text; } error;
typedef struct { u32 tag; union { descriptor ok; error err; } of; } init_result;
typedef struct { u32 tag; union { struct { list outputs, state; } ok; error err; } of; } score_result;
typedef struct { u32 tag; union { list ok; error err; } of; } migrate_result;
_Static_assert(sizeof(init_result) == 56, "init");
_Static_assert(sizeof(score_result) == 20, "score");
_Static_assert(sizeof(migrate_result) == 16, "migrate-state");
enum { INVALID_WEIGHTS, INVALID_CONFIG, INVALID_INPUT, INTERNAL };

#define TEXT(s) { s, sizeof(s) - 1 }

/* Memory: taken from the end of the program on, and all given back once the host has read a result. */
extern u8 __heap_base;
static u32 top;

static void *take(u32 align, u32 bytes) {
    if (top == 0) top = (u32)&__heap_base;
    u32 at = (top + align - 1) & ~(align - 1);
    top = at + bytes;
    u32 there = __builtin_wasm_memory_size(0) << 16;
    if (top > there) {
        u32 pages = (top - there + 0xffff) >> 16;
        if (__builtin_wasm_memory_grow(0, pages) == ~0u) __builtin_trap();
    }
    return (void *)at;
}

static void give_back(void) { top = (u32)&__heap_base; }

EXPORT("cabi_realloc") void *cabi_realloc(void *old, u32 old_len, u32 align, u32 len) {
    u8 *fresh = take(align, len);
    for (u32 i = 0; i < old_len && i < len; i++) fresh[i] = ((u8 *)old)[i];
    return fresh;
}

static double alpha = 0.25;
static init_result init_answer;
static score_result score_answer;
static migrate_result migrate_answer;

static const feature FEATURES[] = { { .name = TEXT("x"), .missing = 0 } };
static const output OUTPUTS[] = { { .name = TEXT("ema"), .kind = 4 } };
static const descriptor EMA = {
    .name = TEXT("ema"), .version = TEXT("1.0.0"),
    .features = { FEATURES, 1 }, .outputs = { OUTPUTS, 1 },
    .state_width = 1, .state_version = 1,
};

static int equals(list text, const char *word, u32 len) {
    if (text.count != len) return 0;
    for (u32 i = 0; i < len; i++) if (((const char *)text.at)[i] != word[i]) return 0;
    return 1;
}

/* Reads 0.1 and the like: digits, a dot, digits. Not a number where it is something else. */
static double number(list text) {
    const char *c = text.at;
    double value = 0, scale = 0;
    for (u32 i = 0; i < text.count; i++) {
        if (c[i] == '.' && scale == 0) { scale = 1; continue; }
        if (c[i] < '0' || c[i] > '9') return __builtin_nan("");
        value = value * 10 + (c[i] - '0');
        scale *= 10;
    }
    return scale > 1 ? value / scale : value;
}

EXPORT(SCORER "init") init_result *init(const void *weights, u32 weights_len, const list *config, u32 entries) {
    (void)weights;
    init_answer.tag = 1;
    if (weights_len > 0) {
        init_answer.of.err = (error){ INVALID_WEIGHTS, TEXT("a moving average has no weights") };
        return &init_answer;
    }
    for (u32 i = 0; i < entries; i++) {
        if (!equals(config[2 * i], "alpha", 5)) {
            init_answer.of.err = (error){ INVALID_CONFIG, TEXT("there is no option but 'alpha'") };
            return &init_answer;
        }
        alpha = number(config[2 * i + 1]);
        if (!(alpha > 0 && alpha <= 1)) {
            init_answer.of.err = (error){ INVALID_CONFIG, TEXT("'alpha' is a number above 0, at most 1") };
            return &init_answer;
        }
    }
    init_answer.tag = 0;
    init_answer.of.ok = EMA;
    return &init_answer;
}
EXPORT("cabi_post_" SCORER "init") void after_init(init_result *answer) { (void)answer; give_back(); }

EXPORT(SCORER "score") score_result *score(u32 rows, const double *features, u32 n_features,
                                           const long long *times, u32 n_times,
                                           const u32 *slots, u32 n_slots, double *state, u32 n_state) {
    (void)times, (void)n_times;
    score_answer.tag = 1;
    score_answer.of.err = (error){ INVALID_INPUT, TEXT("the lengths do not fit the number of rows") };
    if (n_features != rows || n_slots != rows) return &score_answer;
    for (u32 row = 0; row < rows; row++) if (slots[row] >= n_state) return &score_answer;
    double *scores = take(8, 8 * rows);
    for (u32 row = 0; row < rows; row++) {
        double x = features[row], *mean = &state[slots[row]];
        *mean = *mean != *mean ? x : *mean + alpha * (x - *mean);
        scores[row] = *mean;
    }
    score_answer.tag = 0;
    score_answer.of.ok.outputs = (list){ scores, rows };
    score_answer.of.ok.state = (list){ state, n_state };
    return &score_answer;
}
EXPORT("cabi_post_" SCORER "score") void after_score(score_result *answer) { (void)answer; give_back(); }

EXPORT(SCORER "migrate-state") migrate_result *migrate(u32 from, const double *state, u32 n_state) {
    (void)from, (void)state, (void)n_state;
    migrate_answer.tag = 1;
    migrate_answer.of.err = (error){ INVALID_INPUT, TEXT("there was no version before this one") };
    return &migrate_answer;
}
EXPORT("cabi_post_" SCORER "migrate-state") void after_migrate(migrate_result *answer) { (void)answer; give_back(); }
