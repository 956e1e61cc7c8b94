#include "poeem/changes.h"

#include <algorithm>

namespace poeem {
namespace {

// The first place in rising numbers that is not below `wanted`.
template <class T>
std::int64_t lower_place(const T* sorted, std::int64_t count, T wanted) {
  const T* from = sorted;
  while (count > 1) {  // without branches: half of them would be guessed wrong
    const std::int64_t half = count / 2;
    from += from[half - 1] < wanted ? half : 0;
    count -= half;
  }
  return from - sorted;
}

bool comes_before(const JoinedRow& a, const JoinedRow& b) {
  return a.list < b.list || (a.list == b.list && a.id < b.id);
}

void append_view(const RowSource& source, std::int64_t number, std::vector<JoinedRow>& rows) {
  const IndexView& view = *source.view;
  const std::int64_t num_lists = std::max<std::int64_t>(view.num_lists, 1);
  for (std::int64_t list = 0; list < num_lists; ++list) {
    const std::int64_t begin = view.list_offsets == nullptr ? 0 : view.list_offsets[list];
    const std::int64_t end = view.list_offsets == nullptr ? view.num_items : view.list_offsets[list + 1];
    for (std::int64_t i = begin; i < end; ++i)
      if (is_set(source.alive, i)) rows.push_back({list, view.id_at(i), number, i});
  }
}

void append_plain(const RowSource& source, std::int64_t number, std::vector<JoinedRow>& rows) {
  const auto first = static_cast<std::ptrdiff_t>(rows.size());
  for (std::int64_t i = 0; i < source.num_rows; ++i)
    rows.push_back({source.lists == nullptr ? 0 : source.lists[i], source.ids[i], number, i});
  std::sort(rows.begin() + first, rows.end(), comes_before);
}

std::int64_t code_of(const RowSource& source, const IndexView& like, std::int64_t row, std::int64_t m) {
  if (source.view != nullptr) return source.view->code_at(row, m);
  const std::int64_t place = row * like.num_subspaces + m;
  if (like.width == CodeWidth::kWord) return static_cast<const std::uint16_t*>(source.codes)[place];
  return static_cast<const std::uint8_t*>(source.codes)[place];
}

void put_code(const IndexView& like, void* codes, std::int64_t position, std::int64_t m, std::int64_t code) {
  const std::int64_t item = position % kBlockItems;
  std::uint8_t* to = static_cast<std::uint8_t*>(codes) + position / kBlockItems * like.block_bytes();
  switch (like.width) {
    case CodeWidth::kFourBit:
      to[m / 2 * kBlockItems + item] |= static_cast<std::uint8_t>((code & 15) << (m % 2 * 4));
      break;
    case CodeWidth::kByte: to[m * kBlockItems + item] = static_cast<std::uint8_t>(code); break;
    case CodeWidth::kWord:
      reinterpret_cast<std::uint16_t*>(to)[m * kBlockItems + item] = static_cast<std::uint16_t>(code);
      break;
  }
}

}  // namespace

std::int64_t Lookup::find(std::int64_t id) const {
  std::int64_t place = id;
  if (ids32 != nullptr) {
    if (id < 0 || id > std::int64_t{UINT32_MAX} || num_items == 0) return -1;
    place = lower_place(ids32, num_items, static_cast<std::uint32_t>(id));
    if (ids32[place] != id) return -1;
  } else if (ids64 != nullptr) {
    if (num_items == 0) return -1;
    place = lower_place(ids64, num_items, id);
    if (ids64[place] != id) return -1;
  } else if (id < 0 || id >= num_items) {
    return -1;
  }
  if (order32 != nullptr) place = order32[place];
  if (order64 != nullptr) place = order64[place];
  return place < 0 || place >= num_items ? -1 : place;
}

void find_alive(const Lookup& lookup, const std::uint64_t* alive, const std::int64_t* ids, std::int64_t count,
                std::int64_t* positions) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t position = lookup.find(ids[i]);
    positions[i] = position >= 0 && is_set(alive, position) ? position : -1;
  }
}

std::vector<JoinedRow> storage_order(const std::vector<RowSource>& sources) {
  std::vector<JoinedRow> rows;
  for (std::size_t number = 0; number < sources.size(); ++number) {
    const RowSource& source = sources[number];
    const auto middle = static_cast<std::ptrdiff_t>(rows.size());
    if (source.view != nullptr) {
      append_view(source, static_cast<std::int64_t>(number), rows);
    } else {
      append_plain(source, static_cast<std::int64_t>(number), rows);
    }
    std::inplace_merge(rows.begin(), rows.begin() + middle, rows.end(), comes_before);
  }
  return rows;
}

void write_rows(const std::vector<RowSource>& sources, const std::vector<JoinedRow>& rows, const IndexView& like,
                const JoinedTarget& target) {
  std::int64_t position = 0, list = 0;
  for (const JoinedRow& from : rows) {
    const RowSource& source = sources[static_cast<std::size_t>(from.source)];
    if (target.list_offsets != nullptr)
      for (; list <= from.list; ++list) target.list_offsets[list] = position;
    if (target.ids != nullptr) target.ids[position] = from.id;
    if (target.norms != nullptr)
      target.norms[position] = (source.view != nullptr ? source.view->norms : source.norms)[from.row];
    for (std::int64_t m = 0; m < like.num_subspaces; ++m)
      put_code(like, target.codes, position, m, code_of(source, like, from.row, m));
    ++position;
  }
  if (target.list_offsets != nullptr)
    for (; list <= like.num_lists; ++list) target.list_offsets[list] = position;
}

}  // namespace poeem
