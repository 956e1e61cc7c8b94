#include "loops.h"

namespace poeem {

const Arithmetic kArithmeticScalar = {reduce<MinusSquare>, extent, shortfalls, lesser_halves,
    count_at_least, ranks, keep, cheapest, count_bits};

}  // namespace poeem
