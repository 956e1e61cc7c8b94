#include "loops.h"

namespace poeem {

const Arithmetic kArithmeticAvx2 = {reduce<MinusSquare>, extent, shortfalls,
    count_at_least, ranks, keep, count_bits};

}  // namespace poeem
