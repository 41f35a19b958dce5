# The R process behind a lane: reads requests from standard input, answers on the file descriptor that it is told.
#
#   1  file, text, arrays    a call as a user would write it, over the arrays by name
#   2  file, function        names of the parameters, and their defaults as Python writes them
#
# A file is run once, in an environment of its own. A number is an int32, a string its length and bytes, an array its
# name, type, rank, sizes and elements, first axis fastest. The first answer is R's version; every other is 0 and arrays
# (or pairs of strings), or 1, the classes of the condition and its message.

input <- file("stdin", "rb")
output <- file(file.path("/dev/fd", commandArgs(trailingOnly = TRUE)), "wb")
loaded <- new.env()

read_number <- function() readBin(input, "integer", 1, endian = "little")

read_string <- function() {
  bytes <- readBin(input, "raw", read_number())
  text <- rawToChar(bytes)
  Encoding(text) <- "UTF-8"
  text
}

read_array <- function() {
  type <- read_string()
  shape <- readBin(input, "integer", read_number(), endian = "little")
  elements <- readBin(input, if (type == "double") "double" else "integer", prod(shape), endian = "little")
  values <- if (type == "logical") as.logical(elements) else elements
  if (length(shape)) array(values, shape) else values
}

write_number <- function(number) writeBin(as.integer(number), output, endian = "little")

write_string <- function(text) {
  bytes <- charToRaw(enc2utf8(text))
  write_number(length(bytes))
  writeBin(bytes, output)
}

write_array <- function(name, value) {
  shape <- if (is.null(dim(value))) length(value) else dim(value)
  write_string(name)
  write_string(typeof(value))
  write_number(length(shape))
  write_number(shape)
  writeBin(if (is.double(value)) as.vector(value) else as.integer(value), output, endian = "little")
}

as_python <- function(value) {
  if (is.null(value)) return("None")
  text <- if (is.character(value)) {
    encodeString(value, quote = "'")
  } else if (is.logical(value)) {
    ifelse(value, "True", "False")
  } else if (is.integer(value)) {
    as.character(value)
  } else {
    sub("^(-?[0-9]+)$", "\\1.0", format(value, digits = 17))
  }
  if (length(text) == 1) text else paste0("(", paste(text, collapse = ", "), ")")
}

environment_of <- function(path) {
  if (is.null(loaded[[path]])) {
    fresh <- new.env(parent = globalenv())
    sys.source(path, fresh)
    loaded[[path]] <- fresh
  }
  loaded[[path]]
}

run_call <- function() {
  path <- read_string()
  text <- read_string()
  arrays <- list()
  for (i in seq_len(read_number())) {
    name <- read_string()
    arrays[[name]] <- read_array()
  }
  result <- eval(parse(text = text, keep.source = FALSE), arrays, environment_of(path))
  known <- c("double", "integer", "logical", if (is.list(result)) "NULL")
  if (!is.list(result)) result <- list(result)
  for (value in result) {
    if (!typeof(value) %in% known) stop("returned a ", class(value)[1], ", which is no array")
  }
  function() {
    write_number(length(result))
    labels <- if (is.null(names(result))) rep("", length(result)) else names(result)
    for (i in seq_along(result)) write_array(labels[i], result[[i]])
  }
}

run_formals <- function() {
  path <- read_string()
  name <- read_string()
  if (!exists(name, environment_of(path), mode = "function")) stop("there is no function ", name, " in ", basename(path))
  parameters <- formals(get(name, environment_of(path), mode = "function"))
  function() {
    write_number(length(parameters))
    for (parameter in names(parameters)) {
      write_string(parameter)
      required <- identical(parameters[[parameter]], quote(expr = ))
      write_string(if (required) "" else as_python(eval(parameters[[parameter]], environment_of(path))))
    }
  }
}

refuse <- function(condition) {
  function() {
    write_number(1)
    write_string(paste(class(condition), collapse = "\n"))
    write_string(conditionMessage(condition))
  }
}

write_string(as.character(getRversion()))
flush(output)
repeat {
  request <- read_number()
  if (length(request) == 0) quit(save = "no")
  answer <- tryCatch(
    {
      written <- switch(request, run_call(), run_formals())
      function() {
        write_number(0)
        written()
      }
    },
    error = refuse
  )
  answer()
  flush(output)
}
