/* How like one text is to another. */
#ifndef QDOT_CLI_TEXT_SCORES_H
#define QDOT_CLI_TEXT_SCORES_H

#include <stdbool.h>

/** Scores of a text against one reference, from 0 to 1. Words are what stands between white space, as it is written.
 *  ROUGE-L: F1 = 2·P·R / (P + R), P and R the length of the longest common subsequence of words over the candidate's
 *  and the reference's number of them (Lin, ROUGE, 2004, with β = 1). BLEU: the geometric mean of the clipped
 * precisions of 1 to 4 words in a row, times exp(1 - r / c) where the candidate's c words are fewer than the
 * reference's r (Papineni et al., BLEU, 2002); not smoothed: 0 where no four words in a row are the same. Returns
 * false, and leaves the results, when memory runs out. */
bool qd_text_scores(const char *reference, const char *candidate, double *rouge_l, double *bleu);

#endif
