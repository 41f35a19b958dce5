# Helpers that generated R files carry: checks of arguments, and what base R lacks for arrays.
# The printer copies the functions that a file uses. Axes count from 1; the first runs fastest.

.raise <- function(class, message) {
  # An error of the documented class, for tryCatch; it names the function that was called.
  is_public <- function(call) is.name(call[[1]]) && !startsWith(as.character(call[[1]]), ".")
  called <- Filter(is_public, sys.calls())
  call <- if (length(called)) called[[length(called)]][1]
  stop(errorCondition(message, class = class, call = call))
}

.sizes <- function(error, ...) {
  # Where a call's sizes are kept: a dim has one size, and `owner` says from which argument.
  sizes <- list2env(list(error = error, owner = list(), batch = numeric(0), B = 1))
  told <- list(...)
  for (dim in names(told)) .set_size(sizes, dim, told[[dim]][[1]], told[[dim]][[2]])
  sizes
}

.set_size <- function(sizes, dim, size, name) {
  # The first size of a dim stays.
  if (is.null(sizes$owner[[dim]])) {
    sizes[[dim]] <- size
    sizes$owner[[dim]] <- name
  }
}

.tensor <- function(sizes, name, value, kind, ...) {
  # `value` as an array of doubles, or of logicals, in one of the layouts. A vector has one axis;
  # the layout "" is that of a single number.
  types <- switch(kind,
    bool = "logical", "bool or floating" = c("logical", "double"), c("double", "integer")
  )
  type <- if (is.object(value)) class(value)[1] else typeof(value)
  if (!(type %in% types)) {
    wanted <- switch(kind,
      bool = "logical", "bool or floating" = "logical or double", integer = "whole", "numeric"
    )
    .raise(sizes$error, sprintf("`%s` must be %s, got %s", name, wanted, type))
  }
  missing <- which(is.na(value) & !is.nan(value))
  if (length(missing)) {
    text <- "`%s` must not hold NA; element %d of %d does"
    .raise("ValueError", sprintf(text, name, missing[1], length(value)))
  }
  if (kind == "integer" && !all(is.finite(value) & value == trunc(value))) {
    .raise(sizes$error, sprintf("`%s` must hold whole numbers", name))
  }
  if (identical(c(...), "") && length(value) == 1) return(as.double(value))
  shape <- if (is.null(dim(value))) length(value) else dim(value)
  .bind(sizes, name, shape, c(...))
  array(if (is.logical(value)) value else as.double(value), shape)
}

.truth <- function(mask) {
  # A mask of numbers as one of logicals: TRUE unless 0.
  if (!is.numeric(mask)) return(mask)
  array(is.nan(mask) | mask != 0, if (is.null(dim(mask))) length(mask) else dim(mask))
}

.product <- function(sizes) prod(sizes)

.sizes_of <- function(x) if (is.null(dim(x))) length(x) else dim(x)

.whole <- function(name, value) {
  # Whole numbers, one or several.
  if (!is.numeric(value) || !length(value) || any(is.na(value) | value != trunc(value))) {
    .raise("TypeError", sprintf("`%s` must be whole numbers, got %s", name, deparse(value)))
  }
  value
}

.several <- function(name, value, default) {
  # The sizes of the axes that one dim has: a number is that of a single one, NULL the default.
  if (is.null(value)) default else .whole(name, value)
}

.spans <- function(name, axes, query, value) {
  # The sizes of the axes that are together one dim, for inputs that have more axes than dims, and
  # the order of them all: those that `axes` names, counted from 0, are T of a query and S of a
  # value; all others before the last one are B.
  rank <- length(query)
  inner <- seq_len(max(rank - 2, 0))
  named <- if (is.null(axes)) inner else .whole(name, axes)
  places <- ifelse(named < 0, named + rank, named)
  if (rank > 2 && (anyDuplicated(places) || !all(places %in% inner))) {
    text <- "`%s` must name axes between the first and the last of %d, each once, got %s"
    .raise("ValueError", sprintf(text, name, rank, .shown(axes)))
  }
  if (rank < 4) {
    return(NULL)
  }
  if (length(value) != rank) {
    text <- "`value` must have as many axes as `query`, %d, got %d"
    .raise("ValueError", sprintf(text, rank, length(value)))
  }
  others <- setdiff(c(0, inner), places)
  list(
    B = query[others + 1], T = query[places + 1], S = value[places + 1], order = c(others, places) + 1
  )
}

.attended <- function(spans) if (is.null(spans)) 1 else length(spans$T)

.fit_sizes <- function(name, shape, found, wanted) {
  # Sizes are those of other tensors.
  if (length(found) != length(wanted) || !isTRUE(all(found == wanted))) {
    text <- "`%s` must have axes of the sizes %s for a dim, got %s in %s"
    .raise("ValueError", sprintf(text, name, .shown(wanted), .shown(found), .shown(shape)))
  }
}

.fold <- function(name, x, along, spans) {
  # An array with the axes of B together in front, then those of `along`, then its own last ones.
  if (is.null(spans)) {
    return(x)
  }
  shape <- .sizes_of(x)
  rank <- length(spans$order)
  .fit_sizes(name, shape, shape[spans$order], c(spans$B, spans[[along]]))
  rest <- shape[-seq_len(rank)]
  moved <- aperm(array(x, shape), c(spans$order, rank + seq_along(rest)))
  array(moved, c(prod(spans$B), prod(spans[[along]]), rest))
}

.unfold <- function(x, along, spans) {
  # The inverse of `.fold`.
  if (is.null(spans)) {
    return(x)
  }
  rest <- dim(x)[-(1:2)]
  apart <- array(x, c(spans$B, spans[[along]], rest))
  aperm(apart, c(order(spans$order), length(spans$order) + seq_along(rest)))
}

.fold_pairs <- function(name, x, spans) {
  # A mask: axes of B, perhaps one of heads, then those of T and S. The last of B may be lacking,
  # and all be 1.
  if (is.null(spans)) {
    return(x)
  }
  shape <- .sizes_of(x)
  width <- length(spans$T)
  front <- length(shape) - 2 * width
  first <- min(front, length(spans$B))
  if (front < 0 || front - first > 1) {
    text <- "`%s` must have %d axes of queries and keys, and before them those of the batch, got %s"
    .raise("ValueError", sprintf(text, name, 2 * width, .shown(shape)))
  }
  batch <- c(shape[seq_len(first)], rep(1, length(spans$B) - first))
  heads <- shape[seq_len(front - first) + first]
  groups <- list(batch, heads, shape[front + seq_len(width)], shape[front + width + seq_len(width)])
  wanted <- list(spans$B, heads, spans$T, spans$S)
  whole <- joint <- c()
  for (i in 1:4) {
    found <- groups[[i]]
    .fit_sizes(name, shape, ifelse(found == 1, wanted[[i]], found), wanted[[i]])
    ones <- all(found == 1)
    whole <- c(whole, if (ones) found else wanted[[i]])
    joint <- c(joint, if (i == 2) heads else if (ones) 1 else prod(wanted[[i]]))
  }
  array(.spread(array(x, unlist(groups)), seq_along(whole), whole), joint)
}

.unfold_pairs <- function(x, spans) {
  # Weights (B, N, T, S) with every axis of B, T and S.
  if (is.null(spans)) x else array(x, c(spans$B, dim(x)[2], spans$T, spans$S))
}

.fold_last <- function(name, x, sizes) {
  # An array with its last axes together, which have these sizes.
  if (length(sizes) == 1) {
    return(x)
  }
  shape <- .sizes_of(x)
  last <- length(shape) - length(sizes)
  .fit_sizes(name, shape, shape[last + seq_along(sizes)], sizes)
  array(x, c(shape[seq_len(max(last, 0))], prod(sizes)))
}

.unfold_last <- function(x, sizes) {
  # The inverse of `.fold_last`.
  if (length(sizes) == 1) x else array(x, c(dim(x)[-length(dim(x))], sizes))
}

.bind <- function(sizes, name, shape, layouts) {
  # Give the dims of the layout that fits the number of axes their sizes. `X|1` may also be 1.
  for (layout in layouts) {
    axes <- .axes(layout)
    leading <- length(shape) - length(axes)
    if (leading == 0 || (leading > 0 && startsWith(layout, "..."))) {
      for (i in seq_along(axes)) {
        .bind_axis(sizes, name, shape, layouts, axes[i], shape[leading + i])
      }
      for (axis in setdiff(.axes(layouts[1]), axes)) if (!endsWith(axis, "|1")) .set_size(sizes, axis, 1, name)
      if (startsWith(layout, "...")) {
        .bind_leading(sizes, name, shape[seq_len(leading)], !grepl("|", layout, fixed = TRUE))
      }
      return(invisible())
    }
  }
  .misfit(sizes, name, shape, layouts)
}

.axes <- function(layout) {
  # The named axes of a layout.
  axes <- strsplit(layout, " ", fixed = TRUE)[[1]]
  axes[axes != "..."]
}

.misfit <- function(sizes, name, shape, layouts, clash = "") {
  # The error of a shape that no layout allows.
  wanted <- paste0("(", gsub(" ", ", ", layouts, fixed = TRUE), ")", collapse = " or ")
  text <- "`%s` must have shape %s, got %s%s"
  .raise(sizes$error, sprintf(text, name, wanted, .shown(shape), clash))
}

.shown <- function(shape) sprintf("(%s)", paste(shape, collapse = ", "))

.bind_axis <- function(sizes, name, shape, layouts, axis, size) {
  # One axis of one tensor: its dim gets this size, or has it already.
  dim <- sub("|1", "", axis, fixed = TRUE)
  .set_size(sizes, dim, size, name)
  if (size != sizes[[dim]] && !(size == 1 && dim != axis)) {
    clash <- sprintf("; %s = %s is bound by `%s`", dim, sizes[[dim]], sizes$owner[[dim]])
    .misfit(sizes, name, shape, layouts, clash)
  }
}

.bind_leading <- function(sizes, name, leading, grows) {
  # The leading axes of all tensors are broadcast together, a mask not adding to them. B is how
  # many entries they have.
  if (is.null(sizes$owner$B)) {
    sizes$batch <- if (grows) leading else numeric(0)
    sizes$owner$B <- name
  }
  rank <- max(length(sizes$batch), length(leading))
  bound <- c(rep(1, rank - length(sizes$batch)), sizes$batch)
  own <- c(rep(1, rank - length(leading)), leading)
  joint <- ifelse(bound == 1, own, bound)
  fits <- all(own == 1 | own == joint)
  if (!fits || !(grows || identical(as.double(joint), as.double(sizes$batch)))) {
    text <- "`%s` has leading axes %s, which do not broadcast with %s of `%s`"
    .raise(sizes$error, sprintf(text, name, .shown(leading), .shown(sizes$batch), sizes$owner$B))
  }
  sizes$batch <- joint
  sizes$B <- prod(joint)
}

.lacks_leading_axis <- function(sizes, rank, ...) {
  # Whether the tensors come in their shortest layout, of `rank` axes: all of them, or none.
  short <- vapply(list(...), function(tensor) length(dim(tensor)) == rank, NA)
  if (any(short) && !all(short)) {
    quoted <- sprintf("`%s`", names(short))
    listed <- function(names) paste(names, collapse = ", ")
    text <- "%s must have the leading axes of %s"
    .raise(sizes$error, sprintf(text, listed(quoted[short]), listed(quoted[!short])))
  }
  all(short)
}

.lacks_it_too <- function(sizes, lifted, rank, ...) {
  # A tensor that may be NULL comes in its shortest layout, of `rank` axes, where the others do.
  given <- Filter(Negate(is.null), list(...))
  for (name in names(given)) {
    if ((length(dim(given[[name]])) == rank) != lifted) {
      text <- "`%s` must %s the leading axis, as the other tensors do"
      .raise(sizes$error, sprintf(text, name, if (lifted) "lack" else "have"))
    }
  }
}

.one_batch_axis <- function(sizes, x, rank) {
  # The axes before the last `rank` ones as a single one of size B. An array with fewer stays.
  leading <- length(dim(x)) - rank
  if (leading < 0) {
    return(x)
  }
  axes <- length(sizes$batch) - leading + seq_along(dim(x))
  x <- .spread(x, axes, c(sizes$batch, dim(x)[leading + seq_len(rank)]))
  array(x, c(sizes$B, dim(x)[length(sizes$batch) + seq_len(rank)]))
}

.number <- function(name, value) {
  # One number.
  if (!is.numeric(value) || length(value) != 1 || is.na(value)) {
    .raise("TypeError", sprintf("`%s` must be a number, got %s", name, .given(value)))
  }
  as.double(value)
}

.integer <- function(name, value) {
  # One whole number; in R it may well be a double.
  if (!is.numeric(value) || length(value) != 1 || !is.finite(value) || value != trunc(value)) {
    .raise("TypeError", sprintf("`%s` must be a whole number, got %s", name, .given(value)))
  }
  as.double(value)
}

.flag <- function(name, value) {
  # TRUE or FALSE.
  if (!is.logical(value) || length(value) != 1 || is.na(value)) {
    .raise("TypeError", sprintf("`%s` must be TRUE or FALSE, got %s", name, .given(value)))
  }
  as.logical(value)
}

.optional_flag <- function(name, value) {
  # TRUE or FALSE; NULL stands for FALSE.
  !is.null(value) && .flag(name, value)
}

.pair <- function(name, value) {
  # Two whole numbers: one means both, NULL neither.
  fits <- is.numeric(value) && length(value) %in% 1:2
  if (!is.null(value) && !(fits && all(is.finite(value) & value == trunc(value)))) {
    text <- "`%s` must be a whole number or two of them, got %s"
    .raise("TypeError", sprintf(text, name, .given(value)))
  }
  if (!is.null(value)) rep_len(as.double(value), 2)
}

.choice <- function(name, value, choices) {
  # NULL or one of the choices.
  if (!is.null(value) && !(is.character(value) && length(value) == 1 && value %in% choices)) {
    known <- paste0('"', choices, '"', collapse = ", ")
    text <- "`%s` must be NULL or one of %s, got %s"
    .raise("ValueError", sprintf(text, name, known, .given(value)))
  }
}

.members <- function(name, value, least, most) {
  # The members of a list, absent ones as NULL.
  if (!is.list(value) || length(value) < least || length(value) > most) {
    text <- "`%s` must be a list of %d to %d arrays, got %s"
    .raise("ValueError", sprintf(text, name, least, most, .given(value)))
  }
  unname(c(value, rep(list(NULL), most - length(value))))
}

.given <- function(value) {
  # A value in a few words, for messages.
  paste(substr(deparse(value, nlines = 1), 1, 60), collapse = "")
}

.spread <- function(x, axes, shape) {
  # `x` repeated until it has `shape`. Its own axes are `axes` of that shape; one of size 1 is
  # repeated too, and an array with fewer axes lacks the first of them.
  own <- rep(1, length(shape))
  sizes <- if (is.null(dim(x))) length(x) else dim(x)
  own[axes[length(axes) - length(sizes) + seq_along(sizes)]] <- sizes
  if (all(own == shape)) {
    return(array(x, shape))
  }
  index <- Map(function(from, to) if (from == to) seq_len(to) else rep(1, to), own, shape)
  do.call(`[`, c(list(array(x, own)), index, drop = FALSE))
}

.einsum <- function(subscripts, x, y) {
  # Products of `x` and `y` summed over the axes that the result does not have: "ij,jk->ik" is the
  # matrix product. It takes one for every index that both arrays share and the result keeps.
  axes <- strsplit(strsplit(subscripts, ",|->")[[1]], "")
  shared <- intersect(axes[[1]], axes[[2]])
  kept <- intersect(shared, axes[[3]])
  summed <- setdiff(shared, kept)
  left <- setdiff(axes[[1]], shared)
  right <- setdiff(axes[[2]], shared)
  size <- c(dim(x), dim(y))
  names(size) <- c(axes[[1]], axes[[2]])
  count <- function(names) prod(size[names])
  x <- aperm(x, match(c(left, summed, kept), axes[[1]]))
  y <- aperm(y, match(c(summed, right, kept), axes[[2]]))
  dim(x) <- c(count(left), count(summed), count(kept))
  dim(y) <- c(count(summed), count(right), count(kept))
  product <- array(0, c(count(left), count(right), count(kept)))
  for (i in seq_len(count(kept))) {
    rows <- matrix(x[, , i], count(left), count(summed))
    columns <- matrix(y[, , i], count(summed), count(right))
    product[, , i] <- rows %*% columns
  }
  made <- c(left, right, kept)
  aperm(array(product, unname(size[made])), match(axes[[3]], made))
}

.rows <- function(x) {
  # An array as a matrix: one row for each place on the other axes, the last axis as its columns.
  matrix(x, prod(dim(x)[-length(dim(x))]), dim(x)[length(dim(x))])
}

.row_maxima <- function(rows) {
  # The largest number of every row of a matrix; -Inf where it has no columns.
  peak <- rep(-Inf, nrow(rows))
  for (j in seq_len(ncol(rows))) peak <- pmax(peak, rows[, j])
  peak
}

.softmax <- function(logits) {
  # Softmax over the last axis. Each row is shifted by its maximum, so that exp cannot overflow.
  rows <- .rows(logits)
  weights <- exp(rows - .row_maxima(rows))
  array(weights / rowSums(weights), dim(logits))
}

.logsumexp <- function(logits) {
  # Logarithm of the sum of exponentials over the last axis; -Inf where nothing is visible.
  rows <- .rows(logits)
  peak <- .row_maxima(rows)
  peak[peak %in% -Inf] <- 0
  array(log(rowSums(exp(rows - peak))) + peak, dim(logits)[-length(dim(logits))])
}

.is_empty <- function(logits) {
  # Where a row, along the last axis, is -Inf throughout: a query that sees no key.
  rows <- .rows(logits)
  array(rowSums(is.nan(rows) | rows > -Inf) == 0, dim(logits))
}

.any_of_last <- function(x) {
  # Whether any element along the last axis is TRUE.
  array(rowSums(.rows(x)) > 0, dim(x)[-length(dim(x))])
}

.sum_over <- function(x, axis) {
  # The sum over one axis.
  rest <- seq_along(dim(x))[-axis]
  array(rowSums(.rows(aperm(x, c(rest, axis)))), dim(x)[rest])
}

.concat <- function(axis, ...) {
  # Arrays joined along one axis: with it last, their elements come one after another.
  arrays <- list(...)
  rank <- length(dim(arrays[[1]]))
  slowest <- c(seq_len(rank)[-axis], axis)
  sizes <- vapply(arrays, function(x) dim(x)[axis], 0)
  joined <- unlist(lapply(arrays, aperm, slowest))
  aperm(array(joined, c(dim(arrays[[1]])[-axis], sum(sizes))), order(slowest))
}

.apart <- function(x, ...) {
  # Axes that hold several dims, the last one fastest, become an axis for each of them.
  groups <- list(...)
  dim(x) <- unlist(lapply(groups, rev))
  places <- split(seq_along(dim(x)), rep(seq_along(groups), lengths(groups)))
  aperm(x, unlist(lapply(places, rev), use.names = FALSE))
}

.first_at <- function(x, place) {
  # One place of the first axis.
  array(matrix(x, dim(x)[1])[place, ], dim(x)[-1])
}

.pad_last <- function(x) {
  # The array with a zero (FALSE) appended to its last axis, which runs slowest.
  shape <- dim(x)
  last <- length(shape)
  array(c(x, vector(typeof(x), prod(shape[-last]))), c(shape[-last], shape[last] + 1))
}

.drop_last <- function(x) {
  # An array without the last place on its last axis.
  shape <- dim(x)
  shape[length(shape)] <- shape[length(shape)] - 1
  array(x[seq_len(prod(shape))], shape)
}

.gather_last <- function(table, index) {
  # Places of the last axis, counted from 1: the axes of `index` take its place.
  shape <- c(dim(table)[-length(dim(table))], dim(index))
  if (length(shape)) array(.rows(table)[, index], shape) else c(table)[index]
}

.interval <- function(bounds, position) {
  # The number of the interval that a position lies in, from 0: bounds[i] <= position < bounds[i + 1].
  array(findInterval(position, bounds) - 1)
}

.sigmoid <- function(x) 0.5 * (1 + tanh(0.5 * x))

.dropout <- function(weights, rate, seed = NULL) {
  # Zero a share of the weights and rescale the rest; set.seed() decides which.
  if (!is.null(seed)) set.seed(seed)
  kept <- sample(c(TRUE, FALSE), length(weights), replace = TRUE, prob = c(1 - rate, rate))
  array(ifelse(kept, weights / (1 - rate), 0), dim(weights))
}

.initial <- function(how, shape, fan_in, fan_out) {
  # Initial weights: by name, or a function of the shape.
  if (is.function(how)) {
    return(array(how(shape), shape))
  }
  .choice("initializer", how, c("glorot_uniform", "glorot_normal", "linear_uniform", "zeros", "ones"))
  if (how %in% c("zeros", "ones")) {
    return(array(if (how == "ones") 1 else 0, shape))
  }
  count <- prod(shape)
  drawn <- switch(how,
    glorot_uniform = sqrt(6 / (fan_in + fan_out)) * (2 * .uniform(count) - 1),
    glorot_normal = 2 * sqrt(-log(.uniform(count)) / (fan_in + fan_out)) * cos(2 * pi * .uniform(count)),
    linear_uniform = (2 * .uniform(count) - 1) / sqrt(fan_in)
  )
  array(drawn, shape)
}

.uniform <- function(count) {
  # Numbers between 0 and 1, neither of them included.
  most <- .Machine$integer.max
  (sample.int(most, count, replace = TRUE) - 0.5) / most
}

.named <- function(more, known) {
  # The arguments of `...`, each by a name that is known.
  unknown <- if (length(more)) setdiff(if (is.null(names(more))) "" else names(more), known)
  if (length(unknown)) {
    text <- "unknown argument `%s`; known are %s"
    .raise("TypeError", sprintf(text, unknown[1], paste(known, collapse = ", ")))
  }
  more
}

.untrained <- function(name, value) {
  # What acts on weights in training must stay NULL.
  if (!is.null(value)) {
    .raise("NotImplementedError", sprintf("`%s` acts in training, which is not done here", name))
  }
}

.inputs <- function(name, object, known, least) {
  # The inputs of a layer by name: a list of them, or one array for all that it needs.
  if (!is.list(object)) object <- rep(list(object), least)
  named <- names(object)
  fits <- length(object) >= least && length(object) <= length(known)
  if (!fits || !all(named %in% known) || anyDuplicated(named)) {
    text <- "`%s` must be an array or a list (%s) of %d to %d arrays, got %d of them%s"
    said <- if (length(named)) paste(" named", paste(named, collapse = ", ")) else ""
    listed <- paste(known, collapse = ", ")
    .raise("ValueError", sprintf(text, name, listed, least, length(known), length(object), said))
  }
  if (is.null(named)) names(object) <- known[seq_along(object)]
  object
}

.axis_size <- function(inputs, rank, axis, name, otherwise = name) {
  # The size of one axis of an input, or of the one that stands in for it; of the last one where
  # inputs may have any number of axes.
  x <- inputs[[if (is.null(inputs[[name]])) otherwise else name]]
  if (is.null(rank)) {
    return(.sizes_of(x)[length(.sizes_of(x))])
  }
  if (length(dim(x)) != rank) {
    text <- "`%s` must be an array of %d axes, got %d"
    .raise("ValueError", sprintf(text, name, rank, length(dim(x))))
  }
  dim(x)[axis]
}
