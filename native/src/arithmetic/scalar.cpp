#include "loops.h"

namespace poeem {

const Arithmetic kArithmeticScalar = {reduce<MinusSquare>, extent, shortfalls, lesser_halves,
    count_at_least, count_at_most, within, ranks, keep, cheapest, count_bits};

}  // namespace poeem
