/* qdot run: generates text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/generate.h"

typedef struct settings {
    qd_cli_common common;
    const char *prompt, *file, *system, *trace;
    bool chat, greedy, verify, profile, no_stop;
    int64_t count, top_k, seed;
    double temperature, top_p, min_p, penalty;
} settings;

/* ---- Reports ------------------------------------------------------------------------------------------------ */

typedef struct outcome {
    int64_t prompt_tokens, generated_tokens;
    double first_seconds, prompt_seconds, generate_seconds;
    qd_stop stop;
    int64_t compared;  /* positions that the reference was asked about */
    int64_t different; /* the first of them that differs, -1 if none */
    char digest[QD_CLI_DIGEST_TEXT];
} outcome;

static const char *const stop_names[] = {"length", "end token", "context full", "interrupted"};

static double rate(int64_t tokens, double seconds) {
    return seconds > 0 ? (double)tokens / seconds : 0;
}

/* As --kv names it. */
static const char *kv_name(const qd_model_info *m) {
    return m->cache == QD_FORMAT_I8 ? "int8" : "f32";
}

static void print_statistics(const qd_cli_session *s, const outcome *r) {
    const qd_device_info *d = qd_context_device(s->context);
    qd_memory_info memory = {0};
    char size[24];
    qd_context_memory(s->context, &memory);
    const qd_model_info *m = qd_model_describe(s->model);
    const qd_graph_info *g = &m->graph;
    fprintf(stderr, "device %s (%s), peak memory %s\n", d->id, d->name, qd_cli_size(memory.peak, size));
    fprintf(stderr, "keys and values of %lld tokens as %s, %s\n", (long long)m->context, kv_name(m),
            qd_cli_size(m->cache_bytes, size));
    if (g->fallbacks) {
        fprintf(stderr, "%d of the layers' %d operators ran on the reference: see qdot devices\n", g->fallbacks,
                g->ops);
    } else {
        fprintf(stderr, "all of the layers' %d operators ran on the device", g->ops);
        if (g->chained) fprintf(stderr, ", %d of them in shared launches", g->chained);
        fprintf(stderr, "\n");
    }
    const int64_t branches = qd_model_describe(s->model)->branches;
    if (branches) fprintf(stderr, "%lld low-rank branches of adapters\n", (long long)branches);
    fprintf(stderr, "prompt %lld tokens, %.1f tokens/s, first token after %.3f s\n", (long long)r->prompt_tokens,
            rate(r->prompt_tokens, r->prompt_seconds), r->first_seconds);
    fprintf(stderr, "generated %lld tokens, %.1f tokens/s, stopped: %s\n", (long long)r->generated_tokens,
            rate(r->generated_tokens, r->generate_seconds), stop_names[r->stop]);
}

static bool print_profile(qd_context *c) {
    qd_profile_row *rows;
    int count;
    if (qd_context_profile(c, &rows, &count) != QD_OK) {
        qd_cli_failed();
        return false;
    }
    double total = 0;
    for (int i = 0; i < count; i++)
        total += rows[i].seconds;
    fprintf(stderr, "%-40s %9s %11s %7s %9s %9s\n", "kernel", "calls", "ms", "share", "GB/s", "GOP/s");
    for (int i = 0; i < count; i++) {
        const qd_profile_row *r = &rows[i];
        const double s = r->seconds > 0 ? r->seconds : 1;
        fprintf(stderr, "%-40s %9llu %11.3f %6.1f%% %9.2f %9.2f\n", r->kernel, (unsigned long long)r->calls,
                1e3 * r->seconds, total > 0 ? 100 * r->seconds / total : 0, 1e-9 * r->bytes / s,
                1e-9 * r->operations / s);
    }
    qd_profile_free(rows);
    return true;
}

static int print_json(const qd_cli_session *s, const qd_generation *g, const outcome *r) {
    qd_memory_info memory = {0};
    qd_context_memory(s->context, &memory);
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "device", qd_context_device(s->context)->id);
    qd_cli_json_text(root, "text", g->text ? g->text : "", g->text_size);
    qd_cli_json_tokens(root, "tokens", g->tokens, (size_t)g->token_count);
    cJSON_AddStringToObject(root, "stop", stop_names[r->stop]);
    cJSON_AddNumberToObject(root, "prompt_tokens", (double)r->prompt_tokens);
    cJSON_AddNumberToObject(root, "generated_tokens", (double)r->generated_tokens);
    cJSON_AddNumberToObject(root, "prompt_tokens_per_second", rate(r->prompt_tokens, r->prompt_seconds));
    cJSON_AddNumberToObject(root, "generated_tokens_per_second", rate(r->generated_tokens, r->generate_seconds));
    cJSON_AddNumberToObject(root, "first_token_seconds", r->first_seconds);
    cJSON_AddNumberToObject(root, "peak_memory_bytes", (double)memory.peak);
    const qd_model_info *m = qd_model_describe(s->model);
    cJSON_AddStringToObject(root, "kv_format", kv_name(m));
    cJSON_AddNumberToObject(root, "kv_bytes", (double)m->cache_bytes);
    if (r->compared > 0) {
        cJSON *v = cJSON_AddObjectToObject(root, "verify");
        cJSON_AddBoolToObject(v, "agrees", r->different < 0);
        cJSON_AddNumberToObject(v, "positions", (double)r->compared);
        cJSON_AddNumberToObject(v, "first_difference", (double)r->different);
        cJSON_AddStringToObject(v, "sha256", r->digest);
    }
    return qd_cli_print_json(root);
}

/* ---- Verification ------------------------------------------------------------------------------------------- */

/* Evaluates the same tokens on the reference. Returns an exit code. */
static int verify(const settings *s, const qd_generation *g, outcome *r) {
    qd_cli_common common = s->common;
    common.device = "ref";
    common.memory = 0;
    common.kernels = NULL;
    common.context = g->proof->count;
    qd_cli_session reference;
    int code = QD_EXIT_FAILED;
    r->compared = g->proof->count;
    if (qd_cli_open(&common, 0, false, &reference)) {
        const int64_t first = qd_proof_check(g->proof, reference.model, g->tokens);
        qd_cli_digest_end(g->proof->all, r->digest);
        g->proof->all = NULL;
        r->different = first < r->compared ? first : -1;
        if (first >= 0) code = first < r->compared ? QD_EXIT_DIFFERENT : QD_EXIT_OK;
        if (code == QD_EXIT_OK) {
            fprintf(stderr, "the C reference agrees: %lld positions, sha256 %s\n", (long long)r->compared, r->digest);
        } else if (code == QD_EXIT_DIFFERENT) {
            fprintf(stderr,
                    "the C reference differs: the logits of position %lld (of %lld compared) have other bytes\n",
                    (long long)first, (long long)r->compared);
        }
        const int64_t held = qd_model_position(g->session->model);
        if (r->compared < held) {
            fprintf(stderr, "(compared the first %lld of %lld positions)\n", (long long)r->compared, (long long)held);
        }
    }
    qd_cli_close(&reference);
    return code;
}

/* ---- Turns -------------------------------------------------------------------------------------------------- */

static void add_to(outcome *r, const qd_generation *g) {
    if (r->prompt_tokens == 0) r->first_seconds = g->first_seconds;
    r->prompt_tokens += g->prompt_tokens;
    r->generated_tokens += g->generated_tokens;
    r->prompt_seconds += g->first_seconds;
    r->generate_seconds += g->seconds - g->first_seconds;
    r->stop = g->stop;
}

/* Generates after a text; `special`: it holds control tokens. */
static bool generate_after(qd_generation *g, const char *text, size_t size, bool special, outcome *r) {
    int32_t *tokens = NULL;
    size_t count = 0;
    bool ok = false;
    if (qd_tokenize(g->session->tokenizer, text, size, special, true, &tokens, &count) != QD_OK) {
        qd_cli_failed();
    } else if (count == 0) {
        qd_cli_fail("the prompt is empty");
    } else {
        ok = qd_generate(g, tokens, count);
    }
    qd_tokens_free(tokens);
    if (ok) add_to(r, g);
    return ok;
}

enum { MAX_MESSAGES = 512 };

typedef struct conversation {
    qd_message messages[MAX_MESSAGES];
    size_t count;
} conversation;

static bool say(conversation *c, const char *role, const char *text, size_t size) {
    char *content = c->count < MAX_MESSAGES ? malloc(size + 1) : NULL;
    if (!content) {
        qd_cli_fail(c->count < MAX_MESSAGES ? "out of memory" : "the conversation is too long; start a new one");
        return false;
    }
    memcpy(content, text, size);
    content[size] = 0;
    c->messages[c->count++] = (qd_message){role, content};
    return true;
}

static void conversation_free(conversation *c) {
    for (size_t i = 0; i < c->count; i++)
        free((void *)(uintptr_t)c->messages[i].content);
    free(c);
}

/* One turn of a chat, or (conversation NULL) one completion. */
static bool take_turn(qd_generation *g, conversation *c, const char *text, size_t size, outcome *r) {
    if (!c) return generate_after(g, text, size, false, r);
    if (!say(c, "user", text, size)) return false;
    char *all = NULL;
    if (qd_chat_format(g->session->tokenizer, c->messages, c->count, &all) != QD_OK) {
        qd_cli_failed();
        return false;
    }
    const bool ok = generate_after(g, all, strlen(all), true, r);
    qd_text_free(all);
    return ok && say(c, "assistant", g->text ? g->text : "", g->text_size);
}

static bool interactive(qd_generation *g, conversation *c, outcome *r) {
    const bool terminal = isatty(STDIN_FILENO);
    char *line = NULL;
    size_t room = 0;
    bool ok = true;
    if (terminal)
        fprintf(stderr, "%s; end with Ctrl-D\n",
                c ? "A conversation" : "Each line is a prompt of its own (--chat: a conversation)");
    while (ok && !qd_cli_stopped()) {
        if (terminal) fputs("> ", stderr);
        ssize_t size = getline(&line, &room, stdin);
        if (size < 0) break;
        if (size > 0 && line[size - 1] == '\n') size--;
        if (size == 0) continue;
        ok = take_turn(g, c, line, (size_t)size, r);
        putchar('\n');
        if (g->stop == QD_STOP_CONTEXT)
            fprintf(stderr, "(the context is full: start anew, or give a larger --context)\n");
    }
    free(line);
    return ok;
}

/* ---- The command -------------------------------------------------------------------------------------------- */

/* Everything after the session is open. `text`: the prompt, NULL: read lines from standard input. */
static int generate(const settings *s, qd_generation *g, const char *text, size_t size) {
    qd_context *context = g->session->context;
    outcome r = {.different = -1};
    conversation *c = s->chat ? calloc(1, sizeof *c) : NULL;
    bool ok = !s->chat || c;
    if (!ok) qd_cli_fail("out of memory");
    if (ok && s->system) ok = say(c, "system", s->system, strlen(s->system));
    if (ok) ok = text ? take_turn(g, c, text, size, &r) : interactive(g, c, &r);
    if (c) conversation_free(c);
    if (!ok) return QD_EXIT_FAILED;
    if (text && !s->common.json) putchar('\n');
    fflush(stdout);

    if (!s->common.json) print_statistics(g->session, &r);
    if (r.stop == QD_STOP_CONTEXT && text) {
        fprintf(stderr, "the context of %lld tokens is full; give a larger --context to go on\n",
                (long long)qd_model_describe(g->session->model)->context);
    }
    if (s->profile && !print_profile(context)) return QD_EXIT_FAILED;
    if (s->trace && qd_context_trace(context, s->trace) != QD_OK) return qd_cli_failed();
    const int verdict = s->verify && !qd_cli_stopped() ? verify(s, g, &r) : QD_EXIT_OK;
    if (verdict == QD_EXIT_FAILED || !s->common.json) return verdict;
    const int printed = print_json(g->session, g, &r);
    return printed == QD_EXIT_OK ? verdict : printed;
}

static int open_and_generate(const settings *s, const char *text, size_t size) {
    const qd_sampler_options sampling = {
        .temperature = s->greedy ? 0 : (float)s->temperature,
        .top_k = (int)s->top_k,
        .top_p = (float)s->top_p,
        .min_p = (float)s->min_p,
        .repetition_penalty = (float)s->penalty,
        .penalty_window = qd_sampler_defaults().penalty_window,
        .seed = (uint64_t)s->seed,
    };
    qd_cli_session session;
    qd_proof proof = {.count = 0};
    qd_generation g = {
        .session = &session,
        .limit = s->count,
        .no_stop = s->no_stop,
        .stream = !s->common.json,
        .proof = s->verify ? &proof : NULL,
    };
    int code = QD_EXIT_FAILED;
    if (s->verify && !(proof.all = qd_cli_digest_new())) return code;
    qd_cli_catch_interrupt();
    if (qd_cli_open(&s->common, 0, s->profile || s->trace, &session)) {
        if (qd_sampler_create(&sampling, qd_tokenizer_vocab(session.tokenizer), &g.sampler) != QD_OK) {
            qd_cli_failed();
        } else {
            code = generate(s, &g, text, size);
        }
    }
    char unused[QD_CLI_DIGEST_TEXT];
    qd_cli_digest_end(proof.all, unused);
    qd_generation_free(&g);
    qd_sampler_free(g.sampler);
    qd_cli_close(&session);
    return code;
}

int qd_cmd_run(int argc, char **argv) {
    const qd_sampler_options d = qd_sampler_defaults();
    settings s = {
        .count = 128,
        .temperature = (double)d.temperature,
        .top_k = d.top_k,
        .top_p = (double)d.top_p,
        .min_p = (double)d.min_p,
        .penalty = (double)d.repetition_penalty,
        .seed = (int64_t)d.seed,
    };
    const qd_cli_option options[] = {
        QD_CLI_MODEL_OPTION(s.common),
        {"prompt", 'p', QD_CLI_TEXT, &s.prompt, 0, 0, "TEXT", "what to go on from"},
        {"file", 'f', QD_CLI_TEXT, &s.file, 0, 0, "FILE", "the same from a file; - is standard input"},
        {"count", 'n', QD_CLI_INT, &s.count, 0, 1e9, "N", "tokens to generate (default 128)"},
        {"chat", 0, QD_CLI_FLAG, &s.chat, 0, 0, NULL, "put the prompt in the model's chat form"},
        {"system", 0, QD_CLI_TEXT, &s.system, 0, 0, "TEXT", "system message of a chat"},
        QD_CLI_LORA_OPTION(s.common),
        QD_CLI_LORA_SCALED_OPTION(s.common),
        QD_CLI_DEVICE_OPTION(s.common),
        QD_CLI_CONTEXT_OPTION(s.common),
        {"greedy", 0, QD_CLI_FLAG, &s.greedy, 0, 0, NULL, "always the likeliest token"},
        {"temp", 0, QD_CLI_REAL, &s.temperature, 0, 100, "T", "temperature (default 0.8); 0 is --greedy"},
        {"top-k", 0, QD_CLI_INT, &s.top_k, 0, 2147483647, "K", "choose among the K likeliest (default 40); 0: off"},
        {"top-p", 0, QD_CLI_REAL, &s.top_p, 0, 1, "P", "choose among the likeliest that sum to P (default 0.95)"},
        {"min-p", 0, QD_CLI_REAL, &s.min_p, 0, 1, "P",
         "leave out what is less than P times the likeliest (default 0.05)"},
        {"repeat-penalty", 0, QD_CLI_REAL, &s.penalty, 0.01, 100, "X",
         "divide logits of the last 64 tokens (default 1: off)"},
        {"seed", 0, QD_CLI_INT, &s.seed, 0, 9007199254740992.0, "S", "of the random choices (default 0)"},
        QD_CLI_ACTIVATIONS_OPTION(s.common),
        QD_CLI_KV_OPTION(s.common),
        {"no-stop", 0, QD_CLI_FLAG, &s.no_stop, 0, 0, NULL, "go on after tokens that end a text"},
        {"verify", 0, QD_CLI_FLAG, &s.verify, 0, 0, NULL, "compare the logits' bytes with the C reference"},
        {"profile", 0, QD_CLI_FLAG, &s.profile, 0, 0, NULL, "print the device time of each kernel"},
        {"trace", 0, QD_CLI_TEXT, &s.trace, 0, 0, "FILE", "write a Chrome trace of the kernels"},
        QD_CLI_KERNELS_OPTION(s.common),
        QD_CLI_THREADS_OPTION(s.common),
        QD_CLI_MEMORY_OPTION(s.common),
        QD_CLI_JSON_OPTION(s.common),
        QD_CLI_VERBOSE_OPTION(s.common),
        {.kind = QD_CLI_END},
    };
    int code;
    if (!qd_cli_parse(
            argc, argv, "run -m FILE [-p TEXT | -f FILE] [options]",
            "Generates text. Without -p and -f, reads prompts from standard input, one per line. The text goes to "
            "standard\n"
            "output, statistics to standard error. With --verify, exit code 1: the reference gives other bytes.\n"
            "A model with an adapter, at half its strength:\n"
            "  qdot run -m model.gguf --lora-scaled adapter.gguf:0.5 -p \"Once upon a time\"",
            options, &code)) {
        return code;
    }
    if (s.prompt && s.file) return qd_cli_fail("run: give either -p or -f");
    if (s.system && !s.chat) return qd_cli_fail("run: --system needs --chat");
    if (!s.prompt && !s.file && (s.verify || s.common.json))
        return qd_cli_fail("run: --verify and --json need -p or -f");
    char *text = NULL;
    size_t size = 0;
    if (s.file && !qd_cli_read(s.file, &text, &size)) return QD_EXIT_FAILED;
    code = open_and_generate(&s, s.prompt ? s.prompt : text, s.prompt ? strlen(s.prompt) : size);
    free(text);
    return code;
}
