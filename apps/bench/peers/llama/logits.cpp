// llama-logits MODEL TOKENS OUT THREADS
//
// TOKENS: a file of little-endian i32 token ids. OUT: their teacher-forced logits, f32 [tokens, vocabulary], row-major, as llama.cpp computes
// them by default: flash attention, f16 cache, batches of 512. Nothing is prepended: the file holds the beginning-of-text token if there is one.
#include "llama.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

static int fail(const char * what) {
    std::fprintf(stderr, "llama-logits: %s\n", what);
    return 1;
}

static std::vector<llama_token> read_tokens(const char * path) {
    std::vector<llama_token> tokens;
    FILE * file = std::fopen(path, "rb");
    if (!file) return tokens;
    llama_token token;
    while (std::fread(&token, sizeof token, 1, file) == 1) tokens.push_back(token);
    std::fclose(file);
    return tokens;
}

int main(int argc, char ** argv) {
    if (argc != 5) return fail("usage: llama-logits MODEL TOKENS OUT THREADS");
    std::vector<llama_token> tokens = read_tokens(argv[2]);
    if (tokens.empty()) return fail("TOKENS cannot be read or is empty");

    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) return fail("MODEL cannot be loaded");

    llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t) tokens.size();
    params.n_batch = 512;
    params.n_ubatch = 512;
    params.n_threads = params.n_threads_batch = std::atoi(argv[4]);
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    llama_context * context = llama_init_from_model(model, params);
    if (!context) return fail("no context");

    FILE * out = std::fopen(argv[3], "wb");
    if (!out) return fail("OUT cannot be written");
    const size_t vocabulary = (size_t) llama_vocab_n_tokens(llama_model_get_vocab(model));
    llama_batch batch = llama_batch_init(512, 0, 1);
    for (size_t start = 0; start < tokens.size(); start += 512) {
        batch.n_tokens = 0;
        for (size_t position = start; position < tokens.size() && position < start + 512; position++) {
            const int i = batch.n_tokens++;
            batch.token[i] = tokens[position];
            batch.pos[i] = (llama_pos) position;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = 1;
        }
        if (llama_decode(context, batch) != 0) return fail("llama_decode failed");
        for (int i = 0; i < batch.n_tokens; i++) {
            if (std::fwrite(llama_get_logits_ith(context, i), sizeof(float), vocabulary, out) != vocabulary) return fail("OUT is full");
        }
    }
    if (std::fclose(out) != 0) return fail("OUT cannot be written");
    llama_batch_free(batch);
    llama_free(context);
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
