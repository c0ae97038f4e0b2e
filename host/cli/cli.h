/* What the sub-commands share: options, messages, files, progress, JSON, and opening a model. */
#ifndef QDOT_CLI_H
#define QDOT_CLI_H

#include <cjson/cJSON.h>
#include <regex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qdot/qdot.h"

/** Exit codes of the program. */
enum { QD_EXIT_OK = 0, QD_EXIT_DIFFERENT = 1, QD_EXIT_FAILED = 2 };

/* ---- Options ------------------------------------------------------------------------------------------------ */

typedef enum qd_cli_kind {
    QD_CLI_END,
    QD_CLI_FLAG,   /* bool: set to true */
    QD_CLI_TEXT,   /* const char *: points into argv */
    QD_CLI_INT,    /* int64_t */
    QD_CLI_REAL,   /* double, finite */
    QD_CLI_BYTES,  /* uint64_t: a whole number with an optional K, M or G (powers of 1024) */
    QD_CLI_LIST,   /* qd_cli_list: the option may be given several times */
    QD_CLI_OPERAND /* const char *: the next word that is no option; `name` only stands in messages */
} qd_cli_kind;

enum { QD_CLI_LIST_MOST = 64 };
typedef struct qd_cli_list {
    const char *items[QD_CLI_LIST_MOST]; /* in the order given; they point into argv */
    int count;
} qd_cli_list;

/** One row of a sub-command's option table, which ends with {.kind = QD_CLI_END}. */
typedef struct qd_cli_option {
    const char *name; /* long name without dashes */
    char letter;      /* short name, or 0 */
    qd_cli_kind kind;
    void *value;        /* where it goes; what stands there before is the default */
    double least, most; /* INT and REAL: inclusive range, unless both are 0 */
    const char *word;   /* stands for the value in the help: "FILE" */
    const char *help;   /* one line */
} qd_cli_option;

/** Reads argv (argv[0] is the sub-command's name) by the table; adds --help.
 *  usage: what follows "qdot " in the usage line; about: a few lines that say what the sub-command does.
 *  Returns true to go on. Else the sub-command returns *code: help was asked for (0), or a message was printed (2). */
bool qd_cli_parse(int argc, char **argv, const char *usage, const char *about, const qd_cli_option *options, int *code);

/** Options that several sub-commands have. */
typedef struct qd_cli_common {
    const char *model, *device, *activations, *kv, *kernels;
    bool json, verbose;
    int64_t threads, context;
    uint64_t memory;
    qd_cli_list lora, lora_scaled;
} qd_cli_common;

#define QD_CLI_MODEL_OPTION(c) \
    { "model", 'm', QD_CLI_TEXT, &(c).model, 0, 0, "FILE", "the model, a GGUF file" }
#define QD_CLI_DEVICE_OPTION(c)                                                                                   \
    {                                                                                                             \
        "device", 'd', QD_CLI_TEXT, &(c).device, 0, 0, "DEVICE",                                                  \
            "ref, opencl, opencl:gpu, opencl:NAME[:INDEX], rtl, sim:BOARD, or several as layers:A,B or rows:A,B " \
            "(default: $QDOT_DEVICE, else opencl)"                                                                \
    }
#define QD_CLI_ACTIVATIONS_OPTION(c)                                                                        \
    {                                                                                                       \
        "activations", 0, QD_CLI_TEXT, &(c).activations, 0, 0, "A",                                         \
            "what matrices read: a8 (8-bit integers in blocks of 16, the default), f32; with int8 weights " \
            "row or static, too"                                                                            \
    }
#define QD_CLI_KV_OPTION(c)                                                             \
    {                                                                                   \
        "kv", 0, QD_CLI_TEXT, &(c).kv, 0, 0, "K",                                       \
            "keys and values in the cache: f32 (the default), or int8, a quarter of it" \
    }
#define QD_CLI_JSON_OPTION(c) \
    { "json", 0, QD_CLI_FLAG, &(c).json, 0, 0, NULL, "one JSON object on standard output" }
#define QD_CLI_VERBOSE_OPTION(c) \
    { "verbose", 'v', QD_CLI_FLAG, &(c).verbose, 0, 0, NULL, "what the library does, on standard error" }
#define QD_CLI_THREADS_OPTION(c) \
    { "threads", 't', QD_CLI_INT, &(c).threads, 0, 4096, "N", "compute threads of a CPU device; 0: all" }
#define QD_CLI_KERNELS_OPTION(c)                                                                           \
    {                                                                                                      \
        "kernels", 0, QD_CLI_TEXT, &(c).kernels, 0, 0, "WORD",                                             \
            "only kernel variants whose name contains WORD, where an operator has one (see: qdot devices)" \
    }
#define QD_CLI_MEMORY_OPTION(c) \
    { "memory", 0, QD_CLI_BYTES, &(c).memory, 0, 0, "BYTES", "device memory that may be used, as 512M or 2G" }
#define QD_CLI_CONTEXT_OPTION(c) \
    { "context", 'c', QD_CLI_INT, &(c).context, 0, 16777216, "N", "tokens that fit; 0: the model's own, at most 4096" }

#define QD_CLI_LORA_OPTION(c) \
    { "lora", 0, QD_CLI_LIST, &(c).lora, 0, 0, "FILE", "a LoRA adapter, a GGUF file; may be given several times" }
#define QD_CLI_LORA_SCALED_OPTION(c) \
    { "lora-scaled", 0, QD_CLI_LIST, &(c).lora_scaled, 0, 0, "FILE:S", "the same, of S times its strength" }

/** Compiles the extended regular expression of --tensors, to be freed with regfree; prints a message and returns false
 *  where it is none. */
bool qd_cli_regex(const char *pattern, regex_t *out);
/** Reads "1,2,3" into *tokens (free with free()); prints a message and returns false if it is anything else. */
bool qd_cli_token_list(const char *text, int32_t **tokens, size_t *count);

/* ---- Messages, files, time ---------------------------------------------------------------------------------- */

/** Prints "qdot: …" as one line on standard error and returns QD_EXIT_FAILED. */
int qd_cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** The same with the library's last message. */
int qd_cli_failed(void);
/** Reads a file, or standard input for "-". *text has a zero after it and is to be freed with free(). On failure prints
 *  a message and returns false. */
bool qd_cli_read(const char *path, char **text, size_t *size);
/** True when both paths lead to one file that is there. */
bool qd_cli_same_file(const char *a, const char *b);
/** Seconds on a clock that only goes forward. */
double qd_cli_seconds(void);
/** The same on the clock of a context's device: a simulated board has its own, which only its work moves. */
double qd_cli_clock(qd_context *c);
/** Writes a size for people ("93.8 MiB") to `buffer` and returns it. */
const char *qd_cli_size(uint64_t bytes, char buffer[24]);
/** Length of the longest start of `text` that ends no UTF-8 sequence in its middle. Bytes that are not UTF-8 count as
 *  whole. */
size_t qd_cli_utf8_whole(const char *text, size_t size);

/** Draws a bar on standard error when that is a terminal; done == total takes it away. */
void qd_cli_progress(const char *what, double done, double total);
/** For qd_model_options.progress: a bar, and a stop when the user has pressed Ctrl-C (see qd_cli_stopped). */
bool qd_cli_load_progress(void *unused, int done, int total);
/** From now on, the first Ctrl-C only makes qd_cli_stopped() true; the second ends the program. */
void qd_cli_catch_interrupt(void);
bool qd_cli_stopped(void);

/* ---- JSON --------------------------------------------------------------------------------------------------- */

/** Prints an object (NULL: memory ran out while it was built) and frees it. Returns an exit code. */
int qd_cli_print_json(cJSON *object);
/** Adds bytes as a string; what is not UTF-8 becomes U+FFFD. */
void qd_cli_json_text(cJSON *object, const char *name, const char *text, size_t size);
/** Adds a whole number array. */
void qd_cli_json_tokens(cJSON *object, const char *name, const int32_t *tokens, size_t count);

/* ---- Models ------------------------------------------------------------------------------------------------- */

/** True for what belongs to a coded matrix: its row of floats, its outlier columns. */
bool qd_cli_is_side(const qd_gguf *g, qd_string name);

/** A model ready to run, with what it stands on. */
typedef struct qd_cli_session {
    qd_gguf *gguf;
    qd_tokenizer *tokenizer;
    qd_context *context;
    qd_model *model;
} qd_cli_session;

/** Options of a context as the common options ask for. */
qd_context_options qd_cli_context_options(const qd_cli_common *c);
/** Opens the model file, its tokenizer, the device, and loads, with the adapters that were asked for. Prints a message
 * and returns false on failure; then, too, qd_cli_close frees what there is. `profile`: record device times. */
bool qd_cli_open(const qd_cli_common *c, int64_t chunk, bool profile, qd_cli_session *out);
/** The same with `observe`: see qd_model_input_find. */
bool qd_cli_open_observed(const qd_cli_common *c, int64_t chunk, qd_cli_session *out);
/** The same with `keep_layers` and f32 activations: see qd_model_eval_again. */
bool qd_cli_open_kept(const qd_cli_common *c, qd_cli_session *out);
void qd_cli_close(qd_cli_session *s);

/* ---- Texts that a model only reads: observe.c --------------------------------------------------------------- */

enum { QD_CLI_CHUNK = 128 /* tokens at a time */, QD_CLI_LEAST_TOKENS = 256 /* for statistics */ };

/** Tokens of a text for statistics, at most `most` (0: all); free with qd_tokens_free. False: a message was printed;
 *  also where they are fewer than QD_CLI_LEAST_TOKENS. */
bool qd_cli_text_tokens(const qd_tokenizer *t, const char *path, int64_t most, int32_t **tokens, size_t *count);
/** Lets a model that was opened with qd_cli_open_observed and QD_CLI_CHUNK read the tokens, in windows that begin anew;
 *  `take` is called after every chunk with its number of tokens. Draws a bar with `what` and the time that is left.
 *  QD_ERR_CANCELLED: Ctrl-C. */
qd_status qd_cli_observe(qd_cli_session *s, const char *what, const int32_t *tokens, size_t count, int64_t window,
                         qd_status (*take)(void *user, qd_model *m, int64_t rows), void *user);

/** −ln softmax(logits)[token], by log-sum-exp in double. */
double qd_cli_nll(const float *logits, int64_t vocab, int32_t token);

/** SHA-256 of logits, as float32 little-endian bytes in the order added. */
typedef struct qd_cli_digest qd_cli_digest;
enum { QD_CLI_DIGEST_TEXT = 65 };
qd_cli_digest *qd_cli_digest_new(void); /* NULL when memory ran out; a message was printed */
void qd_cli_digest_add(qd_cli_digest *d, const float *values, size_t count);
/** Writes 64 hexadecimal digits and a zero, and frees the digest; nothing for NULL. */
void qd_cli_digest_end(qd_cli_digest *d, char text[QD_CLI_DIGEST_TEXT]);

/* ---- Sub-commands: argv[0] is the name; they return an exit code ---------------------------------------------- */

int qd_cmd_bench(int argc, char **argv);
int qd_cmd_calibrate(int argc, char **argv);
int qd_cmd_compare(int argc, char **argv);
int qd_cmd_convert(int argc, char **argv);
int qd_cmd_devices(int argc, char **argv);
int qd_cmd_formats(int argc, char **argv);
int qd_cmd_fpga(int argc, char **argv);
int qd_cmd_inspect(int argc, char **argv);
int qd_cmd_logits(int argc, char **argv);
int qd_cmd_perplexity(int argc, char **argv);
int qd_cmd_plan(int argc, char **argv);
int qd_cmd_quantize(int argc, char **argv);
int qd_cmd_run(int argc, char **argv);
int qd_cmd_sensitivity(int argc, char **argv);
int qd_cmd_sim(int argc, char **argv);
int qd_cmd_tokenize(int argc, char **argv);
int qd_cmd_tune(int argc, char **argv);
int qd_cmd_verify(int argc, char **argv);

#endif
