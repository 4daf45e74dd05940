//! Rows of varying length, stored end to end in one column.

/// A column whose rows are lists: row `i` is `items[ends[i - 1]..ends[i]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lists<T> {
    ends: Vec<u32>,
    items: Vec<T>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { ends: Vec::new(), items: Vec::new() }
    }
}

impl<T> Lists<T> {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The row `at`.
    pub fn get(&self, at: usize) -> &[T] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.items[start..self.ends[at] as usize]
    }

    /// The row `at`, for changing its items in place.
    pub fn get_mut(&mut self, at: usize) -> &mut [T] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &mut self.items[start..self.ends[at] as usize]
    }

    /// Every item of every row, in order.
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// Appends an item to the row that [`Lists::finish_row`] will end.
    pub fn push_item(&mut self, item: T) {
        self.items.push(item);
    }

    /// Takes back the items pushed since the last row ended.
    pub fn abandon_row(&mut self) {
        self.items.truncate(self.ends.last().map_or(0, |end| *end as usize));
    }

    /// Ends the row that [`Lists::push_item`] began. Returns its length.
    #[inline]
    pub fn finish_row(&mut self) -> usize {
        let (start, end) = (self.ends.last().map_or(0, |end| *end as usize), self.items.len());
        self.ends.push(end as u32);
        end.saturating_sub(start)
    }

    /// The row that ended last; nothing if there is none.
    pub fn last(&self) -> &[T] {
        self.len().checked_sub(1).map_or(&[], |at| self.get(at))
    }

    /// Appends a whole row.
    pub fn push(&mut self, row: impl IntoIterator<Item = T>) {
        self.items.extend(row);
        self.finish_row();
    }

    /// The row that the item `item` of [`Lists::items`] is in, if there is such an item.
    pub fn row_of_item(&self, item: usize) -> Option<usize> {
        (item < self.items.len()).then(|| self.ends.partition_point(|end| *end as usize <= item))
    }

    /// Every item of every row, in order, for changing them in place.
    pub fn items_mut(&mut self) -> &mut [T] {
        &mut self.items
    }

    /// The column of items, for appending to the row that [`Lists::finish_row`] will end.
    pub fn open_items(&mut self) -> &mut Vec<T> {
        &mut self.items
    }

    /// Makes room for `rows` more rows of `items` more items in all.
    pub fn reserve(&mut self, rows: usize, items: usize) {
        self.ends.reserve(rows);
        self.items.reserve(items);
    }
}
