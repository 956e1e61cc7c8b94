#include "loops.h"

namespace poeem {

const Arithmetic kArithmeticAvx2 = {reduce<MinusSquare>, extent, shortfalls, lesser_halves,
    count_at_least, ranks, keep, cheapest, count_bits};

}  // namespace poeem
